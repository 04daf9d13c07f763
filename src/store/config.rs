//! What of the store can be configured.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::config::units;

/// Where changes are kept, and how much of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The embedded store.
    pub sqlite: Sqlite,
}

/// The embedded store.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sqlite {
    /// The folder of the database, of the secret that was made, and of the lock.
    pub path: PathBuf,
    /// How long a delivered change is kept.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub retention: Duration,
    /// The most that the database may hold. Near it the oldest delivered changes go early; at it callbacks are refused.
    #[serde(deserialize_with = "units::size::deserialize")]
    pub max_size: u64,
}

impl Default for Sqlite {
    fn default() -> Self {
        Self { path: PathBuf::from("data"), retention: Duration::from_secs(30 * 24 * 3600), max_size: 10 << 30 }
    }
}

/// Where a sink that the store doesn't know yet begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the first change stored from now on.
    #[default]
    Now,
    /// With the oldest change that is kept.
    Beginning,
}
