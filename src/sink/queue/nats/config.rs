//! How the NATS sink is configured.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use async_nats::{ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};
use url::Url;

use crate::config::units;
use crate::secret::Secret;
use crate::sink::body::Body;
use crate::sink::queue::{Address, Template};
use crate::sink::tls;

/// The forms of its URLs.
const SCHEMES: [&str; 2] = ["nats", "tls"];

/// How long a new stream knows what it has, unless the configuration says otherwise.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(600);

/// The least that a server takes for it.
const LEAST_DUPLICATE_WINDOW: Duration = Duration::from_millis(100);

/// The most copies that a stream may have.
const MAX_REPLICAS: usize = 5;

/// Where messages go, and in which form.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The server, or those of one cluster; this or `url_file` must be set. A user and password, or a token, may be in it.
    pub url: Option<Address>,
    /// The same from a file.
    pub url_file: Option<PathBuf>,
    /// The seed of the nkey by which the receiver shows who it is.
    pub nkey_file: Option<PathBuf>,
    /// The credentials file (JWT and seed) by which it does.
    pub credentials_file: Option<PathBuf>,
    /// The subject of each message; must be set.
    pub subject: Option<Template>,
    /// What a message's body is.
    pub body: Body,
    /// Whether messages have the headers of CloudEvents 1.0 in binary mode, too.
    pub cloudevents: bool,
    /// The stream that is made if it is not there. Unset: none is.
    pub create_stream: Option<NewStream>,
    /// How long connecting may take, and how long a confirmation.
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
            nkey_file: None,
            credentials_file: None,
            subject: None,
            body: Body::default(),
            cloudevents: false,
            create_stream: None,
            timeout: Duration::from_secs(10),
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }
}

/// A stream to be made, of all subjects that the template can give.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewStream {
    /// Its name.
    #[serde(deserialize_with = "stream_name")]
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{1,255}$"))]
    pub name: String,
    /// How many servers have a copy of each message.
    #[serde(default = "one", deserialize_with = "replicas")]
    #[schemars(range(min = 1, max = 5))]
    pub replicas: usize,
    /// How long it keeps a message. Unset: until somebody deletes it.
    #[serde(default, deserialize_with = "units::optional_duration")]
    #[schemars(schema_with = "units::duration::schema")]
    pub max_age: Option<Duration>,
    /// How long it knows the id of a message that it has. Unset: 10 min, or `max_age` when that is less.
    #[serde(default, deserialize_with = "units::optional_duration")]
    #[schemars(schema_with = "units::duration::schema")]
    pub duplicate_window: Option<Duration>,
}

impl NewStream {
    /// How long it knows the id of a message that it has.
    pub(super) fn duplicate_window(&self) -> Duration {
        self.duplicate_window.unwrap_or_else(|| DUPLICATE_WINDOW.min(self.max_age.unwrap_or(Duration::MAX)))
    }

    fn validate(&self) -> Result<(), String> {
        if self.max_age.is_some_and(|max_age| max_age < self.duplicate_window()) {
            return Err("create_stream: duplicate_window is longer than max_age".into());
        }
        if self.duplicate_window() < LEAST_DUPLICATE_WINDOW {
            return Err("create_stream: duplicate_window and max_age have to be 100ms at least".into());
        }
        Ok(())
    }
}

fn one() -> usize {
    1
}

fn replicas<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        replicas @ 1..=MAX_REPLICAS => Ok(replicas),
        _ => Err(D::Error::custom(format!("expected a number from 1 to {MAX_REPLICAS}"))),
    }
}

fn stream_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 255 || !name.chars().all(is_allowed) {
        return Err(D::Error::custom("a stream's name is 1 to 255 letters, digits, hyphens or underscores"));
    }
    Ok(name)
}

impl Config {
    /// Checks what the types alone don't say, and what can be checked without reading the files.
    pub(in crate::sink::queue) fn validate(&self) -> Result<(), String> {
        if self.url_file.is_none() || self.url.is_some() {
            self.load_address_of_one()?;
        }
        self.subject()?;
        if self.nkey_file.is_some() && self.credentials_file.is_some() {
            return Err("nkey_file and credentials_file are both set; keep one of them".into());
        }
        if let Some(stream) = &self.create_stream {
            stream.validate()?;
        }
        self.tls().validate()
    }

    fn load_address_of_one(&self) -> Result<Address, String> {
        Address::load(self.url.as_ref(), self.url_file.as_deref(), &SCHEMES)
    }

    /// The servers.
    pub(super) fn load_address(&self) -> anyhow::Result<Address> {
        self.load_address_of_one().map_err(anyhow::Error::msg)
    }

    /// The subject of each message, of a form that is good for publishing and for a stream.
    pub(super) fn subject(&self) -> Result<&Template, String> {
        let subject =
            self.subject.as_ref().ok_or("subject is missing; set it, as in \"whatsapp.status.{instance_id}\"")?;
        let example = subject.with_all("x");
        if example.split('.').any(str::is_empty) {
            return Err("subject: has a dot at an end, or two in a row".into());
        }
        if let Some(c) = example.chars().find(|c| c.is_whitespace() || c.is_control() || "*>\"".contains(*c)) {
            return Err(format!("subject: has {c:?} in it, which no subject of a message may have"));
        }
        if example.starts_with(['$', '_']) {
            return Err("subject: begins with $ or _, which NATS has for itself".into());
        }
        Ok(subject)
    }

    /// What the client is told about connecting. Reads the files.
    pub(super) fn load_options(&self, address: &Address) -> anyhow::Result<ConnectOptions> {
        let urls = address.urls();
        let files = self.tls();
        let tls = if urls.iter().any(|url| url.scheme() == "tls") {
            files.client_config(true)
        } else {
            // A server may want TLS all the same.
            files.client_config(true).or_else(|_| files.client_config(false))
        };
        Ok(self.load_credentials(urls)?.tls_client_config(tls?))
    }

    fn load_credentials(&self, urls: &[Url]) -> anyhow::Result<ConnectOptions> {
        let mut users: Vec<_> = urls.iter().map(|url| (url.username(), url.password())).collect();
        users.retain(|(user, _)| !user.is_empty());
        users.dedup();
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let options = ConnectOptions::new();
        match (users.as_slice(), &self.nkey_file, &self.credentials_file) {
            ([], None, None) => Ok(options),
            ([(token, None)], None, None) => Ok(options.token(decoded(token))),
            ([(user, Some(password))], None, None) => Ok(options.user_and_password(decoded(user), decoded(password))),
            ([], Some(path), None) => {
                let seed = Secret::read_one(path).map_err(|error| anyhow!("nkey_file: {error}"))?;
                let is_seed = |text: &str| text.starts_with("SU") && text.bytes().all(|b| b.is_ascii_alphanumeric());
                if !is_seed(seed.expose()) {
                    bail!("nkey_file: {}: expected the seed of a user's nkey, which begins with SU", path.display());
                }
                Ok(options.nkey(seed.expose().to_owned()))
            }
            ([], None, Some(path)) => {
                let wrong = || format!("credentials_file: cannot use {}", path.display());
                options.credentials(&std::fs::read_to_string(path).with_context(wrong)?).with_context(wrong)
            }
            ([_, _, ..], None, None) => bail!("url: the URLs have different users; keep one of them"),
            _ => bail!("the URL's user, nkey_file and credentials_file: keep one of them"),
        }
    }

    fn tls(&self) -> tls::Files<'_> {
        tls::Files { ca: self.ca_file.as_deref(), cert: self.cert_file.as_deref(), key: self.key_file.as_deref() }
    }
}

/// The servers as the client may know them: it writes them to the log, so they have nothing but the host in them.
pub(super) fn servers(address: &Address) -> anyhow::Result<Vec<ServerAddr>> {
    let server = |url: &Url| {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default()).parse::<ServerAddr>()
    };
    address.urls().iter().map(|url| server(url).context("url: not one of a server")).collect()
}

/// The subjects that the template can give, with a wildcard in the place of each part that varies.
pub(super) fn wildcard(subject: &Template) -> String {
    let subject = subject.with_all("*");
    // A part that varies only in a piece of it varies as a whole to NATS.
    subject.split('.').map(|part| if part.contains('*') { "*" } else { part }).collect::<Vec<_>>().join(".")
}
