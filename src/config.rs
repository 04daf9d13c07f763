//! The whole configuration: composes the parts' own `Config` types, and finds the file.

mod schema;
mod source;
pub(crate) mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

pub use schema::schema;

use crate::{admin, http, plugchat, sink, store, telemetry};

/// Everything that can be configured. `Config::default()` is what runs with no file at all.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The public listener.
    pub server: http::Config,
    /// Where changes are kept.
    pub store: store::Config,
    /// The listener of the operator.
    pub admin: admin::Config,
    /// The program's own log.
    pub log: telemetry::Config,
    /// The account at Plugchat.
    pub plugchat: plugchat::Config,
    /// Where status changes go, by name.
    pub sinks: BTreeMap<sink::Name, sink::Config>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: http::Config::default(),
            store: store::Config::default(),
            admin: admin::Config::default(),
            log: telemetry::Config::default(),
            plugchat: plugchat::Config::default(),
            sinks: sink::default_sinks(),
        }
    }
}

/// Why the configuration can't be used: where, and what was expected there.
#[derive(Debug)]
pub struct Error {
    place: String,
    what: String,
}

impl Error {
    pub(crate) fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

impl std::error::Error for Error {}

/// The configuration with the file that it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The effective values.
    pub config: Config,
    /// The file, when there is one.
    pub file: Option<PathBuf>,
}

/// Finds and reads the configuration: `file`, else `PLUGCHAT_RECEIVER_CONFIG`, else `./config.toml`, else
/// `/etc/plugchat-receiver/config.toml`, else the defaults; variables of the environment over all of them.
///
/// # Errors
/// [`Error`], with the line and the key.
pub fn load(file: Option<&Path>) -> Result<Loaded, Error> {
    // One that is empty is unset: compose makes such variables.
    let in_environment = std::env::var_os("PLUGCHAT_RECEIVER_CONFIG").filter(|path| !path.is_empty());
    let named = file.map(Path::to_owned).or_else(|| in_environment.map(PathBuf::from));
    let file = named.or_else(|| {
        ["config.toml", "/etc/plugchat-receiver/config.toml"].map(PathBuf::from).into_iter().find(|path| path.exists())
    });
    let text = file
        .as_ref()
        .map(|path| {
            std::fs::read_to_string(path)
                .map_err(|error| Error::new(path.display().to_string(), format!("cannot read it: {error}")))
        })
        .transpose()?;
    let config = parse(file.as_deref().zip(text.as_deref()), &variables()?)?;
    Ok(Loaded { config, file })
}

/// The variables of the environment that are meant for the configuration. One that can't be read may be a secret without which
/// somebody gets in: it is not left out.
fn variables() -> Result<Vec<(String, String)>, Error> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
        .filter(|(name, _)| name.starts_with(source::PREFIX))
        .map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(Error::new(format!("environment variable {name}"), "is not UTF-8")),
        })
        .collect()
}

/// Reads a configuration from text, with `variables` laid over it.
///
/// # Errors
/// [`Error`], with the line and the key.
pub fn parse(file: Option<(&Path, &str)>, variables: &[(String, String)]) -> Result<Config, Error> {
    let config: Config = source::read(file, variables)?;
    let name = file.map_or_else(|| "the configuration".to_owned(), |(path, _)| path.display().to_string());
    let wrong = |what: String| Error::new(name.clone(), what);
    config.server.validate().map_err(wrong)?;
    config.admin.validate().map_err(wrong)?;
    config.plugchat.validate().map_err(wrong)?;
    config.store.sqlite.validate().map_err(wrong)?;
    if same_listener(config.server.listen, config.admin.listen) {
        return Err(wrong("server.listen and admin.listen are the same; give one of them another port".into()));
    }
    for (sink, kind) in &config.sinks {
        kind.validate().map_err(|what| Error::new(name.clone(), format!("sinks.{sink}: {what}")))?;
    }
    Ok(config)
}

/// Whether one of two listeners would find the other in its place. Port 0 is another one each time.
fn same_listener(one: SocketAddr, other: SocketAddr) -> bool {
    let same_host = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    same_host && one.port() == other.port() && one.port() != 0
}

#[cfg(test)]
mod tests;
