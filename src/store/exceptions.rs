//! What a sink was not given when its cursor passed it: rows for the exceptions only.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::{Entry, Error, Store, dead};

/// A change that a sink will be given again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deferred {
    /// Its sequence number.
    pub seq: i64,
    /// How many attempts were made, or begun.
    pub attempts: u32,
    /// When the next attempt is due.
    pub due_at: Timestamp,
    /// An attempt was begun, and the process ended before it was heard of.
    pub in_flight: bool,
}

/// Why a sink will not be given a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The destination will never accept it.
    Refused,
    /// Every attempt failed.
    Exhausted,
    /// The process ended during every attempt.
    Undeliverable,
}

impl Reason {
    /// The word used in the API and the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Exhausted => "exhausted",
            Self::Undeliverable => "undeliverable",
        }
    }
}

/// What became of one change at one sink, other than that it was delivered the first time.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is to be given again. Written before an attempt is made, too, so that one that takes the process down with it counts.
    Deferred(Deferred),
    /// It was deferred, and is delivered or dead now.
    Settled(i64),
    /// The sink is paused, over a restart, too: why.
    Paused(String),
    /// How far the sink's replay has come; `None`: it has ended.
    Replay(Option<Replay>),
    /// It will not be given.
    Dead {
        /// The change.
        entry: Box<Entry>,
        /// How many attempts were made.
        attempts: u32,
        /// Why.
        reason: Reason,
        /// What the destination said.
        cause: String,
    },
}

/// A sink's row that says how far its replay has come.
fn write_replay(connection: &Connection, sink: &str, replay: Option<Replay>) -> rusqlite::Result<usize> {
    match replay {
        None => connection.execute("DELETE FROM replay WHERE sink = ?1", [sink]),
        Some(Replay { position, until, rate, delivered }) => connection
            .prepare_cached("INSERT OR REPLACE INTO replay VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![sink, position, until, rate, delivered as i64]),
    }
}

/// The replay of a sink that is going on.
pub(super) fn replay(connection: &Connection, sink: &str) -> rusqlite::Result<Option<Replay>> {
    connection
        .prepare_cached("SELECT position, until, rate, delivered FROM replay WHERE sink = ?1")?
        .query_row([sink], |row| {
            let delivered: i64 = row.get(3)?;
            Ok(Replay { position: row.get(0)?, until: row.get(1)?, rate: row.get(2)?, delivered: delivered as u64 })
        })
        .optional()
}

/// Stored changes that are given to a sink again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Replay {
    /// Everything up to here was given.
    pub position: i64,
    /// The last change to give.
    pub until: i64,
    /// Changes a second at most.
    pub rate: f64,
    /// How many were given.
    pub delivered: u64,
}

/// Writes outcomes for a sink, whose cursor moves to `cursor` in the same transaction.
pub(super) fn write(connection: &Connection, sink: &str, outcomes: &[Outcome], cursor: i64) -> rusqlite::Result<()> {
    for outcome in outcomes {
        match outcome {
            Outcome::Deferred(Deferred { seq, attempts, due_at, in_flight }) => connection
                .prepare_cached("INSERT OR REPLACE INTO deferred VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![sink, seq, attempts, due_at.as_millisecond(), in_flight])?,
            Outcome::Settled(seq) => connection
                .prepare_cached("DELETE FROM deferred WHERE sink = ?1 AND seq = ?2")?
                .execute(params![sink, seq])?,
            Outcome::Paused(why) => {
                connection.prepare_cached("UPDATE sink SET paused = ?2 WHERE name = ?1")?.execute(params![sink, why])?
            }
            Outcome::Replay(replay) => write_replay(connection, sink, *replay)?,
            Outcome::Dead { entry, attempts, reason, cause } => {
                dead::add(connection, sink, entry, *attempts, *reason, cause)?
            }
        };
    }
    connection
        .prepare_cached("UPDATE sink SET cursor = max(cursor, ?2) WHERE name = ?1")?
        .execute(params![sink, cursor])?;
    Ok(())
}

/// The deferred changes of a sink after `after`, in the order stored, at most `limit`.
pub(super) fn deferred(
    connection: &Connection,
    sink: &str,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Deferred>> {
    connection
        .prepare_cached(
            "SELECT seq, attempts, due_at, in_flight FROM deferred WHERE sink = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
        )?
        .query_map(params![sink, after, limit as i64], |row| {
            Ok(Deferred {
                seq: row.get(0)?,
                attempts: row.get(1)?,
                due_at: Timestamp::from_millisecond(row.get(2)?).unwrap_or_default(),
                in_flight: row.get(3)?,
            })
        })?
        .collect()
}

/// The changes after `cursor` that are deferred or dead.
pub(super) fn written(connection: &Connection, sink: &str, cursor: i64) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT seq FROM deferred WHERE sink = ?1 AND seq > ?2 UNION SELECT seq FROM dead WHERE sink = ?1 AND seq > ?2",
        )?
        .query_map(params![sink, cursor], |row| row.get(0))?
        .collect()
}

/// The oldest change that this sink will be given again.
pub(super) fn oldest_deferred(connection: &Connection, sink: &str) -> rusqlite::Result<Option<i64>> {
    connection.prepare_cached("SELECT min(seq) FROM deferred WHERE sink = ?1")?.query_row([sink], |row| row.get(0))
}

/// What a sink's cursor doesn't say of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Exception {
    /// It will be given again.
    Deferred {
        /// How many attempts were made, or begun.
        attempts: u32,
        /// When the next one is due, unless an earlier change of its message comes first.
        due_at: Timestamp,
    },
    /// It is a dead letter.
    Dead {
        /// The letter's number.
        id: i64,
        /// Why.
        reason: String,
        /// What the destination said.
        cause: String,
        /// How many attempts were made.
        attempts: u32,
    },
}

impl Exception {
    /// In a word or two: `deferred`, `dead: ` and the reason.
    pub fn state(&self) -> String {
        match self {
            Self::Deferred { .. } => "deferred".to_owned(),
            Self::Dead { reason, .. } => format!("dead: {reason}"),
        }
    }
}

impl Store {
    /// Where each of these changes, given by sequence number and event id, stands at each of these sinks beyond what their places
    /// say; in the order of `changes`.
    ///
    /// # Errors
    /// [`Error`] when the store can't be read.
    pub async fn exceptions(
        &self,
        sinks: Vec<String>,
        changes: Vec<(i64, String)>,
    ) -> Result<Vec<BTreeMap<String, Exception>>, Error> {
        let of_one = move |connection: &Connection, seq: i64, event_id: &str| {
            let found = sinks.iter().map(|sink| {
                let exception = find(connection, sink, seq, event_id)?;
                Ok(exception.map(|exception| (sink.clone(), exception)))
            });
            found.filter_map(Result::transpose).collect()
        };
        self.read(move |connection| changes.iter().map(|(seq, id)| of_one(connection, *seq, id)).collect()).await
    }
}

/// Where one change stands at one sink, beyond what its cursor says.
pub(super) fn find(
    connection: &Connection,
    sink: &str,
    seq: i64,
    event_id: &str,
) -> rusqlite::Result<Option<Exception>> {
    let deferred = connection
        .prepare_cached("SELECT attempts, due_at FROM deferred WHERE sink = ?1 AND seq = ?2")?
        .query_row(params![sink, seq], |row| {
            let due_at = Timestamp::from_millisecond(row.get(1)?).unwrap_or_default();
            Ok(Exception::Deferred { attempts: row.get(0)?, due_at })
        })
        .optional()?;
    if deferred.is_some() {
        return Ok(deferred);
    }
    connection
        .prepare_cached(
            "SELECT id, reason, cause, attempts FROM dead WHERE event_id = ?2 AND sink = ?1 ORDER BY id DESC LIMIT 1",
        )?
        .query_row(params![sink, event_id], |row| {
            Ok(Exception::Dead { id: row.get(0)?, reason: row.get(1)?, cause: row.get(2)?, attempts: row.get(3)? })
        })
        .optional()
}
