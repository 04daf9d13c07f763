//! How the forward sink is configured.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use url::{Host, Url};

use super::address;
use super::signing::SigningKey;
use crate::config::units;
use crate::secret::Secret;
use crate::sink::body::Body;

/// How long connecting may take, unless `timeout` is shorter than twice that.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Headers that the sink or the protocol sets. So does everything that begins with one of [`RESERVED_PREFIXES`].
const RESERVED: [&str; 11] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const RESERVED_PREFIXES: [&str; 3] = ["webhook-", "ce-", "proxy-"];

/// Where status changes are posted, and in which form.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The destination; this or `url_file` must be set.
    pub url: Option<Target>,
    /// The same from a file.
    pub url_file: Option<PathBuf>,
    /// What is posted.
    pub body: Body,
    /// The keys that requests are signed with; several during a rotation. None: requests are not signed.
    pub signing_secrets: Vec<SigningKey>,
    /// The same from a file, a key on each line.
    pub signing_secret_file: Option<PathBuf>,
    /// Headers of the operator's own.
    pub headers: Headers,
    /// More of them from a file, as `name: value` on each line.
    pub headers_file: Option<PathBuf>,
    /// Whether requests have the headers of CloudEvents 1.0 in binary mode, too.
    pub cloudevents: bool,
    /// How long a request may take, from connecting to the end of the answer.
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(schema_with = "units::duration::schema")]
    pub timeout: Duration,
    /// How long connecting may take, look-up and TLS included. Unset: 5 s, or half of `timeout` when that is less.
    #[serde(deserialize_with = "units::optional_duration")]
    #[schemars(schema_with = "units::duration::schema")]
    pub connect_timeout: Option<Duration>,
    /// Certificate authorities (PEM) that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            body: Body::default(),
            signing_secrets: Vec::new(),
            signing_secret_file: None,
            headers: Headers::default(),
            headers_file: None,
            cloudevents: false,
            timeout: Duration::from_secs(10),
            connect_timeout: None,
            ca_file: None,
        }
    }
}

impl Config {
    /// Checks what the types alone don't say, and what can be checked without reading the files.
    pub(crate) fn validate(&self) -> Result<(), String> {
        match (&self.url, &self.url_file) {
            (None, None) => return Err("forward.url is missing; set it, or forward.url_file".into()),
            (Some(_), Some(_)) => return Err("forward.url and forward.url_file are both set; keep one of them".into()),
            _ => {}
        }
        if !self.signing_secrets.is_empty() && self.signing_secret_file.is_some() {
            return Err("forward.signing_secrets and forward.signing_secret_file are both set; keep one of them".into());
        }
        if self.connect_timeout.is_some_and(|connect| connect >= self.timeout) {
            return Err("forward.connect_timeout is not shorter than forward.timeout, which includes it".into());
        }
        Ok(())
    }

    /// How long connecting may take: always less than a whole request, so that it can be told which of them was too slow.
    pub(super) fn connect_within(&self) -> Duration {
        self.connect_timeout.unwrap_or_else(|| CONNECT_TIMEOUT.min(self.timeout / 2))
    }

    /// The destination.
    pub(super) fn load_target(&self) -> Result<Target, String> {
        let Some(path) = &self.url_file else {
            return self.url.clone().ok_or_else(|| "forward.url is missing".into());
        };
        let url = Secret::read_one(path).map_err(|error| format!("forward.url_file: {error}"))?;
        Target::try_from(url.expose().to_owned()).map_err(|error| in_file("url_file", path, &error))
    }

    /// The keys, the first of them first in the header.
    pub(super) fn load_keys(&self) -> Result<Vec<SigningKey>, String> {
        let Some(path) = &self.signing_secret_file else { return Ok(self.signing_secrets.clone()) };
        let lines = Secret::read_all(path).map_err(|error| format!("forward.signing_secret_file: {error}"))?;
        lines
            .iter()
            .map(|line| SigningKey::try_from(line.expose().to_owned()))
            .collect::<Result<_, _>>()
            .map_err(|error| in_file("signing_secret_file", path, &error))
    }

    /// The operator's own headers, from both places.
    pub(super) fn load_headers(&self, target: &Target) -> Result<HeaderMap, String> {
        let mut headers = self.headers.clone();
        if let Some(path) = &self.headers_file {
            for line in Secret::read_all(path).map_err(|error| format!("forward.headers_file: {error}"))? {
                let (name, value) = line
                    .expose()
                    .split_once(':')
                    .ok_or_else(|| in_file("headers_file", path, "a line is not of the form name: value"))?;
                headers.insert(name.trim(), value.trim()).map_err(|error| in_file("headers_file", path, &error))?;
            }
        }
        if !target.url().username().is_empty() && headers.0.contains_key(AUTHORIZATION) {
            return Err(
                "forward: the URL has a user name, and there is an authorization header; keep one of them".into()
            );
        }
        Ok(headers.0)
    }
}

fn in_file(key: &str, path: &Path, error: &str) -> String {
    format!("forward.{key}: {}: {error}", path.display())
}

/// A destination's URL. It may have secrets in it, so its `Debug` shows its host alone.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Target(#[schemars(schema_with = "units::url_schema")] Url);

impl Target {
    /// The whole URL, for the request alone.
    pub(super) fn url(&self) -> &Url {
        &self.0
    }

    /// What may be shown: the host, and the port if it is not the usual one.
    pub(super) fn place(&self) -> String {
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}", self.0.host_str().unwrap_or_default())
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let url = Url::parse(text.trim()).map_err(|error| format!("not a URL ({error})"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("expected a URL that begins with https:// or http://".into());
        }
        let ip = match url.host() {
            Some(Host::Ipv4(ip)) => Some(ip.into()),
            Some(Host::Ipv6(ip)) => Some(ip.into()),
            _ => None,
        };
        // A name is looked at when it is resolved.
        if ip.is_some_and(address::is_refused) {
            return Err("the address is link-local or a metadata service's, which are refused".into());
        }
        Ok(Self(url))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.place())
    }
}

/// Headers whose values are hidden in `Debug`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(try_from = "BTreeMap<String, Secret>")]
pub struct Headers(#[schemars(with = "BTreeMap<String, String>")] HeaderMap);

impl Headers {
    fn insert(&mut self, name: &str, value: &str) -> Result<(), String> {
        let name = HeaderName::try_from(name).map_err(|_| "a header's name has characters that no header may have")?;
        let text = name.as_str();
        if RESERVED.contains(&text) || RESERVED_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            return Err(format!("the header {text} is set by the receiver itself, and can't be configured"));
        }
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| format!("the value of the header {text} has characters that no header may have"))?;
        value.set_sensitive(true);
        if self.0.insert(name.clone(), value).is_some() {
            return Err(format!("the header {name} is there twice"));
        }
        Ok(())
    }
}

impl TryFrom<BTreeMap<String, Secret>> for Headers {
    type Error = String;

    fn try_from(values: BTreeMap<String, Secret>) -> Result<Self, String> {
        let mut headers = Self::default();
        for (name, value) in values {
            headers.insert(&name, value.expose())?;
        }
        Ok(headers)
    }
}
