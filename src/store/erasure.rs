//! Taking one person out of the store: whatever has their number in it goes, whole, and out of the bytes of the files, too.
//!
//! It looks by short reads and deletes by short transactions, so that callbacks are taken meanwhile. What comes in after it began is
//! not part of it. When it is broken off, doing it again does the rest.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::oneshot;

use super::writer::{Message, Work};
use super::{Error, Store, scrub, seen};
use crate::phone::Number;

/// The most rows in one look at a table.
const MAX_ROWS: usize = 1000;

/// The most that is deleted at once: it is overwritten, which takes as much room in the write-ahead log.
const DELETED_AT_ONCE: usize = 100;

/// About the most bytes of text in one look.
const MAX_BYTES: usize = 8 << 20;

/// How long a reader may keep the write-ahead log from being emptied, and how often that is tried meanwhile.
const READERS_WITHIN: Duration = Duration::from_secs(10);
const AGAIN_AFTER: Duration = Duration::from_millis(20);

const CHANGES: &str = "SELECT seq, instance_id, message_id, status, phone, participant, body, body_of
    FROM change WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3";
const DEAD_LETTERS: &str = "SELECT id, cause, change FROM dead WHERE id > ?1 AND seq <= ?2 ORDER BY id LIMIT ?3";
const REJECTED: &str = "SELECT id, errors, body FROM rejected WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3";

/// Somebody who is to be taken out, or, in a dry run, only to be counted.
#[derive(Clone)]
pub(crate) struct Erasure {
    pub(crate) number: Arc<Number>,
    pub(crate) dry_run: bool,
    /// The last change that may be meant.
    until: i64,
}

impl Store {
    /// Begins to take somebody out of what is stored now.
    pub(crate) fn erasure(&self, number: Number, dry_run: bool) -> Erasure {
        Erasure { number: Arc::new(number), dry_run, until: self.latest() }
    }

    /// The sequence numbers of the stored changes that have the number in them, ascending.
    pub(crate) async fn find_changes(&self, erasure: &Erasure) -> Result<Arc<[i64]>, Error> {
        let (until, mut after, mut all) = (erasure.until, 0, Vec::new());
        loop {
            let number = Arc::clone(&erasure.number);
            let part = self.read(move |connection| look(connection, CHANGES, &number, after, until)).await?;
            all.extend(part.found);
            match part.last {
                Some(last) => after = last,
                None => return Ok(all.into()),
            }
        }
    }

    /// Takes out what is remembered of their messages, for which these `changes` were found; how many messages.
    pub(crate) async fn erase_messages(&self, erasure: &Erasure, changes: &Arc<[i64]>) -> Result<usize, Error> {
        let (mut after, mut count) = (seen::Key::default(), 0);
        loop {
            let person =
                seen::Person { number: Arc::clone(&erasure.number), seqs: Arc::clone(changes), until: erasure.until };
            let look = person.clone();
            let (found, last) = self.read(move |connection| seen::find(connection, &look, &after, MAX_ROWS)).await?;
            count += found.len();
            if !erasure.dry_run && !found.is_empty() {
                self.edit(move |connection| seen::erase(connection, &person, &found)).await?;
            }
            match last {
                Some(last) => after = last,
                None => return Ok(count),
            }
        }
    }

    /// Takes out when instances were last heard of whose id has the number in it; how many.
    pub(crate) async fn erase_instances(&self, erasure: &Erasure) -> Result<usize, Error> {
        let found: Vec<String> =
            self.inner.shared.instances().keys().filter(|id| erasure.number.is_in(id)).cloned().collect();
        if !erasure.dry_run && !found.is_empty() {
            let ids = serde_json::Value::from(found.clone()).to_string();
            let sql = "DELETE FROM instance WHERE instance_id IN (SELECT value FROM json_each(?1))";
            self.edit(move |connection| connection.execute(sql, [&ids])).await?;
            self.inner.shared.instances().retain(|id, _| !found.contains(id));
        }
        Ok(found.len())
    }

    /// Takes these changes out of the log, and out of what sinks will be given again: how many of those, and how many changes.
    pub(crate) async fn erase_changes(&self, erasure: &Erasure, changes: &[i64]) -> Result<(usize, usize), Error> {
        let (mut deferred, mut count) = (0, 0);
        for part in changes.chunks(DELETED_AT_ONCE) {
            let seqs = list(part);
            if erasure.dry_run {
                let of_these = "SELECT count(*) FROM deferred WHERE seq IN (SELECT value FROM json_each(?1))";
                let ask = move |connection: &Connection| connection.query_row(of_these, [seqs], |row| row.get(0));
                deferred += self.read::<i64>(ask).await? as usize;
                count += part.len();
                continue;
            }
            let of_these = seqs.clone();
            deferred += self
                .edit(move |connection| {
                    let sql = "DELETE FROM deferred WHERE seq IN (SELECT value FROM json_each(?1))";
                    connection.execute(sql, [&of_these])
                })
                .await?;
            count += self
                .edit(move |connection| {
                    // The newest row may be among them, and its number must not be given out again.
                    connection.execute(
                        "UPDATE last_seq SET seq = max(seq, coalesce((SELECT max(seq) FROM change), 0))",
                        [],
                    )?;
                    connection.execute("DELETE FROM change WHERE seq IN (SELECT value FROM json_each(?1))", [&seqs])
                })
                .await?;
        }
        Ok((deferred, count))
    }

    /// Takes out the dead letters of every sink that have the number in them; how many.
    pub(crate) async fn erase_dead(&self, erasure: &Erasure) -> Result<usize, Error> {
        let sql = "DELETE FROM dead WHERE id IN (SELECT value FROM json_each(?1))";
        self.erase_from(erasure, DEAD_LETTERS, erasure.until, sql).await
    }

    /// Takes out the rejected bodies that have the number in them; how many.
    pub(crate) async fn erase_rejected(&self, erasure: &Erasure) -> Result<usize, Error> {
        let sql = "DELETE FROM rejected WHERE id IN (SELECT value FROM json_each(?1))";
        self.erase_from(erasure, REJECTED, i64::MAX, sql).await
    }

    async fn erase_from(
        &self,
        erasure: &Erasure,
        rows: &'static str,
        until: i64,
        delete: &'static str,
    ) -> Result<usize, Error> {
        let (mut after, mut count) = (0, 0);
        loop {
            let number = Arc::clone(&erasure.number);
            let part = self.read(move |connection| look(connection, rows, &number, after, until)).await?;
            count += part.found.len();
            for found in part.found.chunks(DELETED_AT_ONCE).filter(|_| !erasure.dry_run) {
                let ids = list(found);
                self.edit(move |connection| connection.execute(delete, [&ids])).await?;
            }
            match part.last {
                Some(last) => after = last,
                None => return Ok(count),
            }
        }
    }

    /// Overwrites what was deleted where it still stands in the files; `false` when somebody who reads the store for long keeps the
    /// write-ahead log from being emptied.
    pub(crate) async fn erase_traces(&self) -> Result<bool, Error> {
        let pages = self.read(scrub::count_pages).await?;
        let mut next = 1;
        while next <= pages {
            let from = next;
            next += scrub::PART;
            let found = self.read(move |connection| scrub::find(connection, from..next.min(pages + 1))).await?;
            for pages in found.chunks(scrub::OVERWRITTEN_AT_ONCE) {
                let pages = pages.to_vec();
                self.edit(move |connection| scrub::overwrite(connection, &pages)).await?;
            }
        }
        // Last, because all of this is written there first.
        let emptied = async {
            while !self.empty_log().await? {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            Ok(true)
        };
        tokio::time::timeout(READERS_WITHIN, emptied).await.unwrap_or(Ok(false))
    }

    async fn empty_log(&self) -> Result<bool, Error> {
        let (emptied, done) = oneshot::channel();
        self.inner.messages.send(Message::EmptyLog(emptied)).map_err(|_| Error::Stopped)?;
        done.await.map_err(|_| Error::Stopped)
    }

    async fn edit(
        &self,
        edit: impl FnMut(&Connection) -> rusqlite::Result<usize> + Send + 'static,
    ) -> Result<usize, Error> {
        let slot = self.slot().await?;
        Ok(self.submit(Work::Edit(Box::new(edit)), slot).await?.edited)
    }
}

/// A part of a table.
struct Part {
    /// The rows with the number in them.
    found: Vec<i64>,
    /// The last row that was looked at, if there was one.
    last: Option<i64>,
}

/// Looks at the next rows after `after`, of those up to `until`: each is a row's number, texts, and, where there is a number at the end, that of
/// the row before it that has a text of this one.
fn look(connection: &Connection, rows: &str, number: &Number, after: i64, until: i64) -> rusqlite::Result<Part> {
    let mut statement = connection.prepare_cached(rows)?;
    let columns = statement.column_count();
    let mut rows = statement.query(params![after, until, MAX_ROWS as i64])?;
    let mut part = Part { found: Vec::new(), last: None };
    let mut bytes = 0;
    // A callback's text is looked at once, and not for each of its messages.
    let mut shared = (0, false);
    while bytes < MAX_BYTES {
        let Some(row) = rows.next()? else { break };
        let id = row.get(0)?;
        part.last = Some(id);
        let mut is_in = false;
        for column in 1..columns {
            is_in = is_in
                || match row.get_ref(column)? {
                    ValueRef::Integer(first) if first == shared.0 => shared.1,
                    ValueRef::Integer(first) => {
                        shared = (first, is_in_text_of(connection, first, number)?);
                        shared.1
                    }
                    text => {
                        let text = text.as_str_or_null()?.unwrap_or_default();
                        bytes += text.len();
                        number.is_in(text)
                    }
                };
        }
        part.found.extend(is_in.then_some(id));
    }
    Ok(part)
}

fn is_in_text_of(connection: &Connection, seq: i64, number: &Number) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached("SELECT body FROM change WHERE seq = ?1")?;
    let text: Option<Option<String>> = statement.query_row([seq], |row| row.get(0)).optional()?;
    Ok(text.flatten().is_some_and(|text| number.is_in(&text)))
}

/// Numbers as SQLite takes a list of them.
fn list(numbers: &[i64]) -> String {
    serde_json::Value::from(numbers).to_string()
}
