//! What of the public listener can be configured.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::connection::Bounds;
use super::counts::Counts;
use super::refusals::Refusals;
use crate::config::{self, units};
use crate::keyfile;
use crate::network;
use crate::secret::Secret;

/// The file in the store's folder with the secret that was made.
pub(crate) const SECRET_FILE: &str = "secret";

/// The public listener.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where it listens; a TLS proxy stands in front.
    #[serde(deserialize_with = "units::address")]
    #[schemars(schema_with = "units::address_schema")]
    pub listen: SocketAddr,
    /// The callback's path, without the secret.
    #[serde(deserialize_with = "path")]
    #[schemars(regex(pattern = "^/.*[^/]$"))]
    pub path: String,
    /// How the world reaches it: what is registered at Plugchat.
    #[serde(deserialize_with = "units::optional_url")]
    #[schemars(schema_with = "units::url_schema")]
    pub public_url: Option<Url>,
    /// The secrets that are accepted, the first one being registered; several during a rotation.
    pub secrets: Vec<Secret>,
    /// The same from a file, one a line.
    pub secrets_file: Option<PathBuf>,
    /// Who may call; empty: anyone with the secret.
    #[serde(deserialize_with = "units::networks")]
    #[schemars(with = "Vec<String>")]
    pub allow_from: Vec<IpNet>,
    /// The proxies whose `X-Forwarded-For` is believed.
    #[serde(deserialize_with = "units::networks")]
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<IpNet>,
    /// What becomes of callbacks of another type.
    pub other_types: OtherTypes,
    /// The bounds of what comes in.
    pub limits: Limits,
}

/// What becomes of callbacks of another type. They are kept either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OtherTypes {
    /// They are answered 422.
    #[default]
    Reject,
    /// They are answered 200.
    Accept,
}

/// The bounds of what comes in.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The largest body.
    #[serde(deserialize_with = "body_size")]
    #[schemars(schema_with = "units::size::schema")]
    pub body: u64,
    /// From the first byte of a request to the end of its headers.
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(schema_with = "units::duration::schema")]
    pub header_timeout: Duration,
    /// From the end of the headers to the end of the body.
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(schema_with = "units::duration::schema")]
    pub body_timeout: Duration,
    /// Between two requests on one connection; longer than the proxy's, which must be the one to close.
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(schema_with = "units::duration::schema")]
    pub idle_timeout: Duration,
    /// Connections at once.
    #[serde(deserialize_with = "units::count")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: usize,
    /// Callbacks at once between the check of their secret and their answer.
    #[serde(deserialize_with = "units::count")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub in_flight: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            path: "/message-status".into(),
            public_url: None,
            secrets: Vec::new(),
            secrets_file: None,
            allow_from: Vec::new(),
            trusted_proxies: ["127.0.0.0/8", "::1/128"]
                .map(|net| net.parse().expect("a constant that is a network"))
                .into(),
            other_types: OtherTypes::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 64 << 10,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            connections: 10_000,
            in_flight: 20_000,
        }
    }
}

/// A callback has at least some hundred bytes, and is held in memory.
fn body_size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = units::size::deserialize(deserializer)?;
    let is_sane = (1 << 10..=64 << 20).contains(&size);
    is_sane.then_some(size).ok_or_else(|| serde::de::Error::custom("expected a size from \"1KiB\" to \"64MiB\""))
}

fn path<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let path = String::deserialize(deserializer)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    // Clients of URLs take dots out: a path with them would never be asked for.
    let has_dots = path.split('/').any(|part| part == "." || part == "..");
    if !path.starts_with('/') || path.ends_with('/') || path.contains("//") || has_dots || !path.bytes().all(plain) {
        return Err(serde::de::Error::custom(
            "expected a path such as \"/message-status\": it begins with a slash, doesn't end with one, and has only letters, \
             digits and -._~/, and no part that is all dots",
        ));
    }
    Ok(path)
}

impl Config {
    /// Checks what the types alone don't say.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if !self.secrets.is_empty() && self.secrets_file.is_some() {
            return Err("server.secrets and server.secrets_file are both set; keep one of them".into());
        }
        match &self.public_url {
            Some(url) if !matches!(url.scheme(), "http" | "https") || url.host().is_none() => {
                Err("server.public_url: expected an https URL such as \"https://status.example.com\"".into())
            }
            Some(url)
                if [url.query(), url.fragment(), url.password()].iter().any(Option::is_some)
                    || !url.username().is_empty() =>
            {
                Err("server.public_url: expected a URL without a user name, a query or a fragment".into())
            }
            _ => Ok(()),
        }
    }

    /// The secrets that are accepted. Without one configured, the one in the store's folder, which is made when it isn't there.
    pub(crate) fn load_secrets(&self, folder: &Path) -> anyhow::Result<Vec<Secret>> {
        if let Some(file) = &self.secrets_file {
            return Ok(Secret::read_all(file).map_err(|error| config::Error::new("server.secrets_file", error))?);
        }
        if self.secrets.is_empty() {
            return Ok(vec![keyfile::read_or_make(&folder.join(SECRET_FILE))?]);
        }
        Ok(self.secrets.clone())
    }

    /// The URL to register, secret and all: under `public_url`, else where this host reaches it.
    pub(crate) fn callback_url(&self, secret: &Secret) -> String {
        let base = match &self.public_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => format!("http://{}", network::reachable(self.listen)),
        };
        format!("{base}{}/{}", self.path, secret.in_a_path())
    }

    pub(crate) fn bounds(&self, counts: Arc<Counts>) -> Bounds {
        Bounds {
            header_timeout: self.limits.header_timeout,
            idle_timeout: self.limits.idle_timeout,
            connections: self.limits.connections,
            refusals: Some(Arc::new(Refusals::new(counts))),
        }
    }
}
