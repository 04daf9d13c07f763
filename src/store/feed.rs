//! The log as one sink follows it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::exceptions::{self, Deferred, Outcome, Replay};
use super::writer::Work;
use super::{DeadQuery, Entry, Error, Start, Store, changes};

/// The most changes in one batch.
const MAX_ENTRIES: usize = 500;

/// About the most bytes of callbacks in one batch.
const MAX_BYTES: usize = 4 << 20;

/// A sink's place in the log. There is one for each sink; only its drain has it.
#[derive(Debug)]
pub struct Feed {
    pub(super) store: Store,
    pub(super) sink: String,
    pub(super) cursor: i64,
    pub(super) latest: watch::Receiver<i64>,
}

impl Feed {
    /// The changes after `after`, in order, as many as one read gives; none when there are none yet.
    ///
    /// # Errors
    /// When the store can't be read, or has stopped.
    pub async fn read(&self, after: i64) -> Result<Vec<Entry>, Error> {
        let page = self
            .store
            .read(move |connection| {
                changes::page(connection, &changes::Query::default(), after, MAX_ENTRIES, MAX_ENTRIES, MAX_BYTES)
            })
            .await?;
        Ok(page.entries)
    }

    /// The change with this sequence number, if it is still there.
    ///
    /// # Errors
    /// When the store can't be read, or has stopped.
    pub async fn find(&self, seq: i64) -> Result<Option<Entry>, Error> {
        self.store.read(move |connection| changes::find(connection, seq)).await
    }

    /// The sequence number of the latest stored change.
    pub fn latest(&self) -> i64 {
        *self.latest.borrow()
    }

    /// Waits until a change after `after` is stored.
    ///
    /// # Errors
    /// When the store has stopped.
    pub async fn wait_beyond(&mut self, after: i64) -> Result<(), Error> {
        self.latest.wait_for(|latest| *latest > after).await.map(drop).map_err(|_| Error::Stopped)
    }

    /// Moves the sink's place: everything up to `seq` is done with. It is on disk with one of the next commits; after a crash
    /// before that, those changes come again.
    pub fn done(&mut self, seq: i64) {
        if seq > self.cursor {
            self.cursor = seq;
            self.store.record_place(&self.sink, seq);
        }
    }

    /// Writes what became of changes other than a plain delivery, and moves the sink's place to `seq` with it; returns when it
    /// is on disk.
    ///
    /// # Errors
    /// [`Error`]; then none of it was written.
    pub async fn settle(&mut self, outcomes: Vec<Outcome>, seq: i64) -> Result<(), Error> {
        let (sink, cursor) = (self.sink.clone(), seq.max(self.cursor));
        let slot = self.store.slot().await?;
        let write = move |connection: &Connection| exceptions::write(connection, &sink, &outcomes, cursor).map(|()| 1);
        self.store.submit(Work::Edit(Box::new(write)), slot).await?;
        self.done(cursor);
        Ok(())
    }

    /// The changes deferred for this sink after `after`, in the order stored: a part of them, until there are none.
    ///
    /// # Errors
    /// When the store can't be read, or has stopped.
    pub async fn deferred(&self, after: i64) -> Result<Vec<Deferred>, Error> {
        let sink = self.sink.clone();
        self.store.read(move |connection| exceptions::deferred(connection, &sink, after, MAX_ENTRIES)).await
    }

    /// The changes after the sink's place that were deferred or died all the same: an earlier one kept the place from moving.
    ///
    /// # Errors
    /// When the store can't be read, or has stopped.
    pub async fn written(&self) -> Result<Vec<i64>, Error> {
        let (sink, cursor) = (self.sink.clone(), self.cursor);
        self.store.read(move |connection| exceptions::written(connection, &sink, cursor)).await
    }

    /// How many dead letters the sink has.
    ///
    /// # Errors
    /// When the store can't be read, or has stopped.
    pub async fn count_dead(&self) -> Result<i64, Error> {
        self.store.count_dead(&self.sink, &DeadQuery::default()).await
    }

    /// Why the sink is paused, if it is.
    ///
    /// # Errors
    /// When the store can't be read, or has stopped.
    pub async fn paused(&self) -> Result<Option<String>, Error> {
        let sink = self.sink.clone();
        self.store
            .read(move |connection| {
                connection.query_row("SELECT paused FROM sink WHERE name = ?1", [sink], |row| row.get(0))
            })
            .await
    }

    /// Forgets why the sink was paused; returns when that is on disk.
    ///
    /// # Errors
    /// [`Error`]; then it was not written.
    pub async fn resume(&self) -> Result<(), Error> {
        let sink = self.sink.clone();
        let slot = self.store.slot().await?;
        let write =
            move |connection: &Connection| connection.execute("UPDATE sink SET paused = NULL WHERE name = ?1", [&sink]);
        self.store.submit(Work::Edit(Box::new(write)), slot).await.map(drop)
    }

    /// The sink's replay that is going on.
    ///
    /// # Errors
    /// When the store can't be read, or has stopped.
    pub async fn replay(&self) -> Result<Option<Replay>, Error> {
        let sink = self.sink.clone();
        self.store.read(move |connection| exceptions::replay(connection, &sink)).await
    }

    /// Everything up to this sequence number is done with.
    pub fn cursor(&self) -> i64 {
        self.cursor
    }
}

impl Store {
    fn record_place(&self, sink: &str, cursor: i64) {
        let mut places = self.inner.shared.places.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(place) = places.get_mut(sink) {
            *place = cursor.max(*place);
        }
        drop(places);
        // One message at a time: the writer stores every place when it gets to it.
        if !self.inner.shared.progress_sent.swap(true, Ordering::AcqRel) {
            self.inner.send_progress();
        }
    }
}

/// Gives each new sink its place, and reads the places of all of them.
pub(super) fn register(
    connection: &Connection,
    sinks: &[(String, Start)],
    last_seq: i64,
) -> rusqlite::Result<BTreeMap<String, i64>> {
    let oldest: Option<i64> = connection.query_row("SELECT min(seq) FROM change", [], |row| row.get(0))?;
    let before_oldest = oldest.map_or(last_seq, |oldest| oldest - 1);
    let mut places = BTreeMap::new();
    for (name, start) in sinks {
        let begin = match start {
            Start::Now => last_seq,
            Start::Beginning => before_oldest,
        };
        connection.execute("INSERT OR IGNORE INTO sink (name, cursor) VALUES (?1, ?2)", params![name, begin])?;
        let cursor: i64 = connection.query_row("SELECT cursor FROM sink WHERE name = ?1", [name], |row| row.get(0))?;
        if cursor < before_oldest {
            tracing::warn!(
                sink = name,
                missed = before_oldest - cursor,
                "changes that were stored while this sink was not configured are gone by retention; it goes on with the oldest kept"
            );
        }
        places.insert(name.clone(), cursor);
    }
    let others: Option<String> = connection
        .query_row(
            "SELECT group_concat(name, ', ') FROM sink WHERE name NOT IN (SELECT value FROM json_each(?1))",
            [serde_json::Value::from_iter(sinks.iter().map(|(name, _)| name.as_str())).to_string()],
            |row| row.get(0),
        )
        .optional()?
        .flatten();
    if let Some(others) = others {
        tracing::warn!(sinks = others, "sinks that are no longer configured: nothing is kept for them");
    }
    Ok(places)
}
