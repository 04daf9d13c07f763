//! How the Redis sink is configured.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::Deserialize;

use super::connection::Server;
use crate::config::units;
use crate::sink::body::Body;
use crate::sink::queue::{Address, Template};
use crate::sink::tls;

/// The forms of its URLs.
const SCHEMES: [&str; 2] = ["redis", "rediss"];

/// Which stream changes are added to, and in which form.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The server; this or `url_file` must be set.
    pub url: Option<Address>,
    /// The same from a file.
    pub url_file: Option<PathBuf>,
    /// The key of the stream; it must be set.
    pub stream: Option<Template>,
    /// About how many entries the server keeps in a stream, the oldest out first. Unset: all.
    pub max_length: Option<NonZeroU64>,
    /// What an entry's body is.
    pub body: Body,
    /// How long connecting may take, and how long each confirmation.
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(schema_with = "units::duration::schema")]
    pub timeout: Duration,
    /// Certificate authorities (PEM) that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate (PEM) by which the receiver shows who it is.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            stream: None,
            max_length: None,
            body: Body::default(),
            timeout: Duration::from_secs(10),
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }
}

impl Config {
    /// Checks what the types alone don't say, and what can be checked without reading the files.
    pub(in crate::sink::queue) fn validate(&self) -> Result<(), String> {
        if self.url.is_some() || self.url_file.is_none() {
            self.server(&Address::load(self.url.as_ref(), self.url_file.as_deref(), &SCHEMES)?)?;
        }
        self.tls().validate()?;
        self.stream().map(drop)
    }

    pub(super) fn stream(&self) -> Result<&Template, String> {
        self.stream.as_ref().ok_or_else(|| "stream is missing; set the key of the stream".into())
    }

    /// Where the server is, with what its URL and the TLS files say.
    pub(super) fn load_server(&self) -> anyhow::Result<Server> {
        let address =
            Address::load(self.url.as_ref(), self.url_file.as_deref(), &SCHEMES).map_err(anyhow::Error::msg)?;
        let mut server = self.server(&address).map_err(anyhow::Error::msg)?;
        if server.is_tls() {
            server.use_tls(self.tls().client_config(true)?).context("url")?;
        }
        Ok(server)
    }

    fn server(&self, address: &Address) -> Result<Server, String> {
        let server = Server::new(address, self.timeout)?;
        if !server.is_tls() && (self.ca_file.is_some() || self.cert_file.is_some() || self.key_file.is_some()) {
            return Err(
                "url: without TLS no certificates are used; begin it with rediss://, or leave ca_file, cert_file \
                        and key_file out"
                    .into(),
            );
        }
        Ok(server)
    }

    fn tls(&self) -> tls::Files<'_> {
        tls::Files { ca: self.ca_file.as_deref(), cert: self.cert_file.as_deref(), key: self.key_file.as_deref() }
    }
}
