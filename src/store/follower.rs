//! The log as somebody follows it who only looks on: nothing is kept for them, and they can be told that something is gone.

use rusqlite::Connection;
use tokio::sync::watch;

use super::{Entry, Error, Page, Query, Store, changes};

/// The most reads of followers at once, however many they are: the other readers are for the sinks and for questions.
pub(super) const MAX_READERS: usize = 2;

/// The most changes in one part, and about the most bytes of callbacks: what is held in memory for a follower that is slow.
const MAX_ENTRIES: usize = 100;
const MAX_BYTES: usize = 256 << 10;

/// The most changes that are looked at for one part.
const MAX_ROWS: usize = 2000;

/// A place in the log, and what is wanted of what comes after it.
#[derive(Debug)]
pub struct Follower {
    store: Store,
    latest: watch::Receiver<i64>,
    query: Query,
    place: i64,
}

/// What a follower is given at a time.
#[derive(Clone, Debug)]
pub struct Part {
    /// The place that it goes on after, when that is not where it was: what came next was deleted before it was read; or, when it is
    /// less, the log ends earlier than it once did, as after an older copy of the store was put in place.
    pub moved_to: Option<i64>,
    /// The next changes that match, in the order stored.
    pub entries: Vec<Entry>,
    /// Whether it reaches to the log's end.
    pub is_last: bool,
}

impl Store {
    /// Follows what matches, after `place`.
    pub fn follow(&self, query: Query, place: i64) -> Follower {
        Follower { store: self.clone(), latest: self.inner.latest.clone(), query, place }
    }
}

impl Follower {
    /// Everything up to this sequence number was given, or doesn't match.
    pub fn place(&self) -> i64 {
        self.place
    }

    /// What `render` makes of the next part of the log: a short read, after which there may be more. Nothing in it means that nothing
    /// matched so far. It is rendered on the thread that reads, so that many followers take no more of the processor than few.
    ///
    /// # Errors
    /// When the store can't be read, or has stopped.
    pub async fn read<T: Send + 'static>(
        &mut self,
        render: impl FnOnce(Part) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let _reading = self.store.inner.following.acquire().await.map_err(|_| Error::Stopped)?;
        let (query, place) = (self.query.clone(), self.place);
        let read = self.store.read(move |connection| {
            let (part, next) = part(connection, &query, place)?;
            Ok((render(part), next))
        });
        let (rendered, next) = read.await?;
        self.place = next;
        Ok(rendered)
    }

    /// Waits until a change after its place is stored.
    ///
    /// # Errors
    /// When the store has stopped, and there is none.
    pub async fn wait(&mut self) -> Result<(), Error> {
        let place = self.place;
        self.latest.wait_for(|latest| *latest > place).await.map(drop).map_err(|_| Error::Stopped)
    }
}

/// What comes after a place, and the place after that. A row that was put back for a dead letter hides that what was stored after it
/// is gone.
fn part(connection: &Connection, query: &Query, place: i64) -> rusqlite::Result<(Part, i64)> {
    // What is there and what is gone have to be of one moment.
    let transaction = connection.unchecked_transaction()?;
    let (oldest, end): (Option<i64>, i64) = transaction
        .prepare_cached(
            "SELECT (SELECT min(seq) FROM change), max(seq, coalesce((SELECT max(seq) FROM change), 0)) FROM last_seq",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let begin = place.max(oldest.map_or(end, |oldest| oldest - 1)).min(end);
    let Page { entries, next } = changes::page(&transaction, query, begin, MAX_ENTRIES, MAX_ROWS, MAX_BYTES)?;
    // Numbers at the end whose changes are gone would be waited for in vain.
    let next = if next == begin { end } else { next };
    Ok((Part { moved_to: (begin != place).then_some(begin), entries, is_last: next == end }, next))
}

#[cfg(test)]
mod tests;
