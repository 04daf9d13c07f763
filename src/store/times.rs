//! Times and places in the log.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::{Error, Store, exceptions};

impl Store {
    /// The sequence number before the first change that was received at `time` or later. It is as good as the clock was: where it was
    /// set back, or rejected bodies were accepted later, times don't grow with sequence numbers.
    ///
    /// # Errors
    /// [`Error`] when the store can't be read.
    pub async fn before(&self, time: Timestamp) -> Result<i64, Error> {
        let latest = self.latest();
        Ok(self.read(move |connection| before(connection, time)).await?.unwrap_or(latest))
    }

    /// How many changes are stored after `after`, up to `until`.
    ///
    /// # Errors
    /// [`Error`] when the store can't be read.
    pub async fn count(&self, after: i64, until: i64) -> Result<i64, Error> {
        self.read(move |connection| count(connection, after, until)).await
    }

    /// When the oldest change was received that this sink has still to be given, or to be asked whether it wants it.
    ///
    /// # Errors
    /// [`Error`] when the store can't be read.
    pub async fn oldest_undelivered(&self, sink: &str) -> Result<Option<Timestamp>, Error> {
        let Some(cursor) = self.places().get(sink).copied() else { return Ok(None) };
        let sink = sink.to_owned();
        self.read(move |connection| {
            let deferred = exceptions::oldest_deferred(connection, &sink)?;
            oldest(connection, cursor, deferred)
        })
        .await
    }
}

/// How many changes in a row [`before`] looks at together. Times grow with sequence numbers, but for clocks that are set back and
/// for rejected bodies that were accepted later, which keep the time at which they came: fewer of those in a row than this
/// don't mislead it.
const RUN: i64 = 1000;

/// The sequence number before the first change that was received at `time` or later: the last one's, when there is none; `None` when
/// there are no changes. There is no index over times: it halves the range of sequence numbers, with one short look at each step.
fn before(connection: &Connection, time: Timestamp) -> rusqlite::Result<Option<i64>> {
    let time = time.as_millisecond();
    let ends: (Option<i64>, Option<i64>) =
        connection.query_row("SELECT (SELECT min(seq) FROM change), (SELECT max(seq) FROM change)", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let (Some(first), Some(last)) = ends else { return Ok(None) };
    let mut statement = connection.prepare_cached(
        "SELECT min(seq) FILTER (WHERE received_at >= ?3)
         FROM (SELECT seq, received_at FROM change WHERE seq >= ?1 ORDER BY seq LIMIT ?2)",
    )?;
    let mut late_enough = |seq: i64| statement.query_row(params![seq, RUN, time], |row| row.get::<_, Option<i64>>(0));
    // In none of the runs that begin before `low` is one late enough; in the one that begins at `high` there is, or the log ends.
    let (mut low, mut high) = (first, last + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        match late_enough(middle)? {
            Some(_) => high = middle,
            None => low = middle + 1,
        }
    }
    Ok(Some(late_enough(high)?.unwrap_or(last + 1) - 1))
}

/// How many changes there are after `after`, up to `until`.
fn count(connection: &Connection, after: i64, until: i64) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT count(*) FROM change WHERE seq > ?1 AND seq <= ?2")?
        .query_row([after, until], |row| row.get(0))
}

/// When the oldest change after `after` was received, or when the one numbered `or` was, if that is older.
fn oldest(connection: &Connection, after: i64, or: Option<i64>) -> rusqlite::Result<Option<Timestamp>> {
    let received_at: Option<i64> = connection
        .prepare_cached(
            "SELECT min(received_at) FROM (
                 SELECT received_at FROM (SELECT received_at FROM change WHERE seq > ?1 ORDER BY seq LIMIT 1)
                 UNION ALL SELECT received_at FROM change WHERE seq = ?2)",
        )?
        .query_row(params![after, or], |row| row.get(0))?;
    Ok(received_at.and_then(|ms| Timestamp::from_millisecond(ms).ok()))
}
