//! Bodies that were no valid callback: kept, bounded in number and size, the oldest out first.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;

use super::writer::{Edit, Work};
use super::{Error, Receipt, Slot, Store};
use crate::callback::{Callback, FieldError};
use crate::status::with_milliseconds;

/// The most bodies that are kept.
const MAX_BODIES: i64 = 10_000;

/// The most bytes that the kept bodies may have together.
const MAX_BYTES: i64 = 32 << 20;

/// A body that was no valid `MessageStatusCallback`.
#[derive(Clone, Debug, Serialize)]
pub struct Rejected {
    /// Its number, in the order they came.
    pub id: i64,
    /// When it came.
    #[serde(serialize_with = "received_at")]
    pub received_at: Timestamp,
    /// What was wrong with it.
    pub errors: Vec<FieldError>,
    /// The body as it came.
    pub body: String,
}

/// As the changes have it.
fn received_at<S: serde::Serializer>(timestamp: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&with_milliseconds(*timestamp))
}

impl Store {
    /// Keeps a body that was no valid callback; returns when it is on disk.
    ///
    /// # Errors
    /// [`Error`]; then it was not kept.
    pub async fn reject(
        &self,
        body: String,
        errors: Vec<FieldError>,
        received_at: Timestamp,
        slot: Slot,
    ) -> Result<Receipt, Error> {
        let bytes = body.len() + errors.iter().map(|error| error.pointer.len() + error.detail.len()).sum::<usize>();
        let add: Edit = Box::new(move |connection| add(connection, &errors, &body, received_at).map(|()| 1));
        self.submit(Work::Add(add, bytes), slot).await
    }

    /// Stores the callback that a rejected body turned out to be, and lets the body go, in one transaction. Its changes keep the
    /// time at which the body came.
    ///
    /// # Errors
    /// [`Error`]; then the body is still kept.
    pub async fn accept_rejected(&self, rejected: &Rejected, callback: Callback) -> Result<Receipt, Error> {
        let slot = self.admit()?;
        let work = Work::Accept { callback, received_at: rejected.received_at, rejected_id: Some(rejected.id) };
        self.submit(work, slot).await
    }

    /// Lets a rejected body go; whether there was one.
    ///
    /// # Errors
    /// [`Error`]; then it is still kept.
    pub async fn drop_rejected(&self, id: i64) -> Result<bool, Error> {
        let slot = self.admit()?;
        let receipt = self.submit(Work::Edit(Box::new(move |connection| remove(connection, id))), slot).await?;
        Ok(receipt.edited > 0)
    }

    /// The newest rejected bodies, newest first: at most `limit` of those with a number below `before`.
    ///
    /// # Errors
    /// [`Error`] when the store can't be read.
    pub async fn list_rejected(&self, before: i64, limit: usize) -> Result<Vec<Rejected>, Error> {
        self.read(move |connection| list(connection, before, limit)).await
    }

    /// A rejected body by its number.
    ///
    /// # Errors
    /// [`Error`] when the store can't be read.
    pub async fn find_rejected(&self, id: i64) -> Result<Option<Rejected>, Error> {
        self.read(move |connection| find(connection, id)).await
    }
}

/// Keeps one more, and lets the oldest go that are over the bounds.
pub(super) fn add(
    connection: &Connection,
    errors: &[FieldError],
    body: &str,
    received_at: Timestamp,
) -> rusqlite::Result<()> {
    let errors =
        serde_json::to_string(errors).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    connection
        .prepare_cached("INSERT INTO rejected (received_at, errors, body) VALUES (?1, ?2, ?3)")?
        .execute(params![received_at.as_millisecond(), errors, body])?;
    let mut dropped = 0;
    while connection
        .prepare_cached("SELECT bodies > ?1 OR bytes > ?2 FROM rejected_total")?
        .query_row([MAX_BODIES, MAX_BYTES], |row| row.get(0))?
    {
        dropped +=
            connection.prepare_cached("DELETE FROM rejected WHERE id = (SELECT min(id) FROM rejected)")?.execute([])?;
    }
    if dropped > 0 {
        tracing::debug!(dropped, "the oldest rejected callbacks were let go for newer ones");
    }
    Ok(())
}

/// The newest `limit` before `before`, newest first.
pub(super) fn list(connection: &Connection, before: i64, limit: usize) -> rusqlite::Result<Vec<Rejected>> {
    connection
        .prepare_cached("SELECT id, received_at, errors, body FROM rejected WHERE id < ?1 ORDER BY id DESC LIMIT ?2")?
        .query_map(params![before, limit as i64], read)?
        .collect()
}

/// The one with this number.
pub(super) fn find(connection: &Connection, id: i64) -> rusqlite::Result<Option<Rejected>> {
    connection
        .prepare_cached("SELECT id, received_at, errors, body FROM rejected WHERE id = ?1")?
        .query_row([id], read)
        .optional()
}

/// Lets one go; how many there were.
pub(super) fn remove(connection: &Connection, id: i64) -> rusqlite::Result<usize> {
    connection.prepare_cached("DELETE FROM rejected WHERE id = ?1")?.execute([id])
}

fn read(row: &Row<'_>) -> rusqlite::Result<Rejected> {
    let errors: String = row.get(2)?;
    Ok(Rejected {
        id: row.get(0)?,
        received_at: Timestamp::from_millisecond(row.get(1)?).unwrap_or_default(),
        errors: serde_json::from_str(&errors).unwrap_or_default(),
        body: row.get(3)?,
    })
}
