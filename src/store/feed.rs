//! The log as one sink follows it.

use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::{Entry, Error, Store, changes};

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
    /// Waits for changes after the sink's place and reads the first of them; at least one. Cancelling it loses nothing.
    ///
    /// # Errors
    /// When the store can't be read, or has stopped.
    pub async fn next(&mut self) -> Result<Vec<Entry>, Error> {
        loop {
            let after = self.cursor;
            let latest = *self.latest.wait_for(|latest| *latest > after).await.map_err(|_| Error::Stopped)?;
            let page = self
                .store
                .read(move |connection| {
                    changes::page(connection, &changes::Query::default(), after, MAX_ENTRIES, MAX_ENTRIES, MAX_BYTES)
                })
                .await?;
            if !page.entries.is_empty() {
                return Ok(page.entries);
            }
            // What was there is gone in the meantime.
            self.done(latest);
        }
    }

    /// Moves the sink's place: everything up to `seq` is done with. It is on disk with one of the next commits; after a crash
    /// before that, those changes come again.
    pub fn done(&mut self, seq: i64) {
        self.cursor = self.cursor.max(seq);
        self.store.record_place(&self.sink, self.cursor);
    }

    /// The sequence number of the last change that is done with.
    pub fn cursor(&self) -> i64 {
        self.cursor
    }
}

impl Store {
    fn record_place(&self, sink: &str, cursor: i64) {
        let mut places = self.inner.shared.places.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(place) = places.get_mut(sink) {
            *place = cursor;
        }
        drop(places);
        // One message at a time: the writer stores every place when it gets to it.
        if !self.inner.shared.progress_sent.swap(true, Ordering::AcqRel) {
            self.inner.send_progress();
        }
    }
}
