//! Dead letters: changes that a sink was not given for good, each kept whole until somebody retries or drops it.

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};
use serde::Serialize;

use super::writer::{Edit, Work};
use super::{Entry, Error, Reason, Store, changes};
use crate::status::StatusChange;

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

/// Which dead letters of a sink are meant. A default one means all.
#[derive(Clone, Debug, Default)]
pub struct DeadQuery {
    /// Only those with this reason.
    pub reason: Option<String>,
    /// Only the one with this number.
    pub id: Option<i64>,
}

impl Store {
    /// The dead letters of a sink after number `after`, in the order they died, at most `limit`.
    ///
    /// # Errors
    /// [`Error`] when the store can't be read.
    pub async fn dead(&self, sink: &str, query: DeadQuery, after: i64, limit: usize) -> Result<Vec<Dead>, Error> {
        let sink = sink.to_owned();
        self.read(move |connection| list(connection, &sink, &query, after, limit)).await
    }

    /// How many dead letters of a sink are meant.
    ///
    /// # Errors
    /// [`Error`] when the store can't be read.
    pub async fn count_dead(&self, sink: &str, query: &DeadQuery) -> Result<i64, Error> {
        let (sink, query) = (sink.to_owned(), query.clone());
        self.read(move |connection| count(connection, &sink, &query)).await
    }

    /// Lets dead letters go for good; how many there were.
    ///
    /// # Errors
    /// [`Error`]; then they are all still there.
    pub async fn drop_dead(&self, sink: &str, query: DeadQuery) -> Result<usize, Error> {
        let sink = sink.to_owned();
        let edit: Edit = Box::new(move |connection| remove(connection, &sink, &query));
        Ok(self.submit(Work::Edit(edit), self.admit()?).await?.edited)
    }

    /// Makes at most `limit` dead letters of a sink due again; how many it were. The sink's drain has to be told.
    ///
    /// # Errors
    /// [`Error`]; then they are all still there.
    pub async fn revive_dead(&self, sink: &str, query: DeadQuery, limit: usize) -> Result<usize, Error> {
        let sink = sink.to_owned();
        let edit: Edit = Box::new(move |connection| revive(connection, &sink, &query, limit));
        Ok(self.submit(Work::Edit(edit), self.admit()?).await?.edited)
    }
}

/// Keeps a change as a dead letter of a sink.
pub(super) fn add(
    connection: &Connection,
    sink: &str,
    entry: &Entry,
    attempts: u32,
    reason: Reason,
    cause: &str,
) -> rusqlite::Result<usize> {
    let change =
        serde_json::to_string(&entry.change).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    // A replay may find what is dead already: it is one letter still.
    connection
        .prepare_cached("DELETE FROM dead WHERE event_id = ?2 AND sink = ?1")?
        .execute(params![sink, entry.change.facts.event_id()])?;
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
        ])
}

/// The dead letters of a sink after `after`, in the order they died, at most `limit`.
fn list(
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
fn count(connection: &Connection, sink: &str, query: &DeadQuery) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "SELECT count(*) FROM dead WHERE sink = ?1 AND (?2 IS NULL OR reason = ?2) AND (?3 IS NULL OR id = ?3)",
        )?
        .query_row(params![sink, query.reason, query.id], |row| row.get(0))
}

/// Makes dead letters due again at once, with all their attempts before them; how many, at most `limit`. Those whose change
/// retention has deleted are put back in the log, where it will find them again once they are delivered.
fn revive(connection: &Connection, sink: &str, query: &DeadQuery, limit: usize) -> rusqlite::Result<usize> {
    let letters = list(connection, sink, query, 0, limit)?;
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
fn remove(connection: &Connection, sink: &str, query: &DeadQuery) -> rusqlite::Result<usize> {
    connection
        .prepare_cached("DELETE FROM dead WHERE sink = ?1 AND (?2 IS NULL OR reason = ?2) AND (?3 IS NULL OR id = ?3)")?
        .execute(params![sink, query.reason, query.id])
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
