//! What of the store can be configured.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::units;

/// Below this there is no room for a callback.
const MIN_SIZE: u64 = 1 << 20;

/// Where changes are kept, and how much of them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The embedded store.
    pub sqlite: Sqlite,
}

/// The embedded store.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sqlite {
    /// The folder of the database, of the secret that was made, and of the lock.
    pub path: PathBuf,
    /// How long a delivered change is kept.
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(schema_with = "units::duration::schema")]
    pub retention: Duration,
    /// How long the texts of a delivered change's callback and of rejected callbacks are kept; unset: as long as changes.
    #[serde(deserialize_with = "units::optional_duration")]
    #[schemars(schema_with = "units::duration::schema")]
    pub body_retention: Option<Duration>,
    /// The most that the database may hold. Near it the oldest delivered changes go early; at it callbacks are refused.
    #[serde(deserialize_with = "units::size::deserialize")]
    #[schemars(schema_with = "units::size::schema")]
    pub max_size: u64,
}

impl Default for Sqlite {
    fn default() -> Self {
        let retention = Duration::from_secs(30 * 24 * 3600);
        Self { path: PathBuf::from("data"), retention, body_retention: None, max_size: 10 << 30 }
    }
}

impl Sqlite {
    /// Checks what the types alone don't say.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if self.max_size < MIN_SIZE {
            return Err("store.sqlite.max_size is less than 1MiB, and an empty store is hardly smaller".into());
        }
        if self.body_retention.is_some_and(|bodies| bodies > self.retention) {
            return Err(
                "store.sqlite.body_retention is longer than store.sqlite.retention, after which nothing is kept".into(),
            );
        }
        Ok(())
    }
}

/// Where a sink that the store doesn't know yet begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the first change stored from now on.
    #[default]
    Now,
    /// With the oldest change that is kept.
    Beginning,
}
