//! What a sink was not given when its cursor passed it: rows for the exceptions only.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};

use super::{Entry, changes};
use crate::status::StatusChange;

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
        entry: Entry,
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

/// A change that a sink was not given.
#[derive(Clone, Debug, Serialize)]
pub struct Dead {
    /// Its number, in the order they died.
    pub id: i64,
    /// Its place in the log.
    #[serde(skip)]
    pub seq: i64,
    /// Why.
    pub reason: String,
    /// What the destination said.
    pub cause: String,
    /// How many attempts were made.
    pub attempts: u32,
    /// When it was given up.
    pub died_at: Timestamp,
    /// The change.
    pub change: StatusChange,
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
                let change = serde_json::to_string(&entry.change)
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
                connection
                    .prepare_cached(
                        "INSERT INTO dead (sink, seq, event_id, reason, cause, attempts, died_at, change, since_previous_ms)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    )?
                    .execute(params![
                        sink,
                        entry.seq,
                        entry.change.facts.event_id(),
                        reason.name(),
                        cause,
                        attempts,
                        Timestamp::now().as_millisecond(),
                        change,
                        entry.change.since_previous_ms,
                    ])?
            }
        };
    }
    connection.prepare_cached("UPDATE sink SET cursor = ?2 WHERE name = ?1")?.execute(params![sink, cursor])?;
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

/// Which dead letters of a sink are meant. A default one means all.
#[derive(Clone, Debug, Default)]
pub struct DeadQuery {
    /// Only those with this reason.
    pub reason: Option<String>,
    /// Only the one with this number.
    pub id: Option<i64>,
}

/// The dead letters of a sink after `after`, in the order they died, at most `limit`.
pub(super) fn dead(
    connection: &Connection,
    sink: &str,
    query: &DeadQuery,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Dead>> {
    connection
        .prepare_cached(
            "SELECT id, seq, reason, cause, attempts, died_at, change, since_previous_ms FROM dead
             WHERE sink = ?1 AND id > ?2 AND (?3 IS NULL OR reason = ?3) AND (?4 IS NULL OR id = ?4) ORDER BY id LIMIT ?5",
        )?
        .query_map(params![sink, after, query.reason, query.id, limit as i64], read_dead)?
        .collect()
}

/// How many dead letters of a sink are meant.
pub(super) fn count_dead(connection: &Connection, sink: &str, query: &DeadQuery) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "SELECT count(*) FROM dead WHERE sink = ?1 AND (?2 IS NULL OR reason = ?2) AND (?3 IS NULL OR id = ?3)",
        )?
        .query_row(params![sink, query.reason, query.id], |row| row.get(0))
}

/// Makes dead letters due again at once, with all their attempts before them; how many, at most `limit`. Those whose change
/// retention has deleted are put back in the log, where it will find them again once they are delivered.
pub(super) fn revive_dead(
    connection: &Connection,
    sink: &str,
    query: &DeadQuery,
    limit: usize,
) -> rusqlite::Result<usize> {
    let letters = dead(connection, sink, query, 0, limit)?;
    for letter in &letters {
        changes::put_back(connection, letter.seq, &letter.change)?;
        connection.prepare_cached("INSERT OR REPLACE INTO deferred VALUES (?1, ?2, 0, ?3, 0)")?.execute(params![
            sink,
            letter.seq,
            Timestamp::now().as_millisecond()
        ])?;
        connection.prepare_cached("DELETE FROM dead WHERE id = ?1")?.execute([letter.id])?;
    }
    Ok(letters.len())
}

/// Lets dead letters go; how many there were.
pub(super) fn drop_dead(connection: &Connection, sink: &str, query: &DeadQuery) -> rusqlite::Result<usize> {
    connection
        .prepare_cached("DELETE FROM dead WHERE sink = ?1 AND (?2 IS NULL OR reason = ?2) AND (?3 IS NULL OR id = ?3)")?
        .execute(params![sink, query.reason, query.id])
}

/// Where one change stands at one sink, beyond what its cursor says.
pub(super) fn standing(
    connection: &Connection,
    sink: &str,
    seq: i64,
    event_id: &str,
) -> rusqlite::Result<Option<String>> {
    let deferred = connection
        .prepare_cached("SELECT 'deferred' FROM deferred WHERE sink = ?1 AND seq = ?2")?
        .query_row(params![sink, seq], |row| row.get(0))
        .optional()?;
    if deferred.is_some() {
        return Ok(deferred);
    }
    connection
        .prepare_cached("SELECT 'dead: ' || reason FROM dead WHERE event_id = ?2 AND sink = ?1")?
        .query_row(params![sink, event_id], |row| row.get(0))
        .optional()
}

fn read_dead(row: &Row<'_>) -> rusqlite::Result<Dead> {
    let change: String = row.get(6)?;
    let mut change: StatusChange = serde_json::from_str(&change)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(6, rusqlite::types::Type::Text, error.into()))?;
    change.since_previous_ms = row.get(7)?;
    Ok(Dead {
        id: row.get(0)?,
        seq: row.get(1)?,
        reason: row.get(2)?,
        cause: row.get(3)?,
        attempts: row.get(4)?,
        died_at: Timestamp::from_millisecond(row.get(5)?).unwrap_or_default(),
        change,
    })
}
