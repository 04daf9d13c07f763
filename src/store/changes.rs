//! The log's rows: from a callback to rows, and from a row to a status change.

use std::ops::Range;

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, params};

use super::counts::Tally;
use super::seen::{self, Verdict};
use super::{Entry, Receipt, retention};
use crate::callback::{self, Body, Callback};
use crate::status::{Facts, Rank, Status, StatusChange, Transition};

const COLUMNS: &str = "seq, received_at, instance_id, message_id, status, phone, participant, device, moment, is_group, \
    transition, previous, since_previous_ms, ids_start, ids_end, \
    coalesce(body, (SELECT first.body FROM change AS first WHERE first.seq = change.body_of))";

/// Stores what is new in a callback, from `*next_seq` on, which moves past what was stored, and tallies it.
pub(super) fn append(
    connection: &Connection,
    callback: &Callback,
    received_at: Timestamp,
    next_seq: &mut i64,
    tally: &mut Tally,
) -> rusqlite::Result<Receipt> {
    let mut receipt = Receipt { stored: 0, duplicates: 0, edited: 0 };
    let mut body_of = None;
    for message_id in callback.ids() {
        let facts = callback.facts(message_id);
        let Verdict::New { transition, previous, since_previous_ms } = seen::record(connection, &facts, *next_seq)?
        else {
            receipt.duplicates += 1;
            // The first one has the same id, which is made from nothing but what the two have in common.
            tracing::debug!(id = facts.event_id(), message_id, "exact duplicate, known already");
            continue;
        };
        let row = Row {
            seq: *next_seq,
            received_at,
            facts: &facts,
            is_group: callback.is_group(),
            transition,
            previous,
            since_previous_ms,
            body: body_of.is_none().then_some(callback.body().text.as_str()),
            body_of,
            ids: callback.body().ids.as_ref(),
        };
        row.insert(connection)?;
        tally.stored(&facts.status, transition);
        body_of.get_or_insert(*next_seq);
        receipt.stored += 1;
        *next_seq += 1;
    }
    Ok(receipt)
}

/// Puts a change that retention has deleted back in its place, or its callback's text when that alone is gone.
pub(super) fn put_back(connection: &Connection, seq: i64, change: &StatusChange) -> rusqlite::Result<()> {
    let row = Row {
        seq,
        received_at: change.received_at,
        facts: &change.facts,
        is_group: change.is_group,
        transition: change.transition,
        previous: change.previous,
        since_previous_ms: change.since_previous_ms,
        body: Some(change.callback.get()),
        body_of: None,
        ids: None,
    };
    row.insert(connection)?;
    connection
        .prepare_cached("UPDATE change SET body = ?2 WHERE seq = ?1 AND body IS NULL AND body_of IS NULL")?
        .execute(params![seq, row.body])?;
    retention::cut_again_from(connection, seq)
}

/// What a row of the log has.
struct Row<'a> {
    seq: i64,
    received_at: Timestamp,
    facts: &'a Facts,
    is_group: bool,
    transition: Transition,
    previous: Option<Rank>,
    since_previous_ms: Option<i64>,
    body: Option<&'a str>,
    body_of: Option<i64>,
    ids: Option<&'a Range<usize>>,
}

impl Row<'_> {
    fn insert(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "INSERT OR IGNORE INTO change
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
            )?
            .execute(params![
                self.seq,
                self.received_at.as_millisecond(),
                self.facts.instance_id,
                self.facts.message_id,
                self.facts.status.as_str(),
                self.facts.phone,
                self.facts.participant,
                self.facts.device,
                self.facts.moment.map(Timestamp::as_millisecond),
                self.is_group,
                self.transition as i64,
                self.previous.map(|rank| rank as i64),
                self.since_previous_ms,
                self.body,
                self.body_of,
                self.ids.map(|ids| ids.start as i64),
                self.ids.map(|ids| ids.end as i64),
            ])
            .map(drop)
    }
}

/// Which stored changes are asked for. A default one asks for all.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Any spelling of the status.
    pub status: Option<Status>,
    /// The connected account.
    pub instance_id: Option<String>,
    /// The chat's phone or the participant.
    pub phone: Option<String>,
}

impl Query {
    fn matches(&self, change: &StatusChange) -> bool {
        let facts = &change.facts;
        let is = |asked: &Option<String>, value: &Option<String>| asked.is_none() || asked == value;
        self.status.as_ref().is_none_or(|status| status.canonical() == facts.status.canonical())
            && is(&self.instance_id, &facts.instance_id)
            && (is(&self.phone, &facts.phone) || is(&self.phone, &facts.participant))
    }
}

/// A part of the log.
#[derive(Clone, Debug)]
pub struct Page {
    /// What was asked for, in the order stored.
    pub entries: Vec<Entry>,
    /// Where to go on: everything up to here was looked at.
    pub next: i64,
}

/// At most `limit` entries after `after`, of at most `max_bytes` of callbacks (but one at least) and out of at most
/// `max_rows` looked at: one read must not hold the database's past for long.
pub(super) fn page(
    connection: &Connection,
    query: &Query,
    after: i64,
    limit: usize,
    max_rows: usize,
    max_bytes: usize,
) -> rusqlite::Result<Page> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM change WHERE seq > ?1 ORDER BY seq LIMIT ?2"))?;
    let mut rows = statement.query(params![after, max_rows as i64])?;
    let mut page = Page { entries: Vec::new(), next: after };
    let mut bytes = 0;
    while page.entries.len() < limit && bytes < max_bytes {
        let Some(row) = rows.next()? else { break };
        let entry = read(row)?;
        page.next = entry.seq;
        if query.matches(&entry.change) {
            bytes += entry.change.callback.get().len();
            page.entries.push(entry);
        }
    }
    Ok(page)
}

/// The entry with this sequence number, when retention has left it.
pub(super) fn find(connection: &Connection, seq: i64) -> rusqlite::Result<Option<Entry>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM change WHERE seq = ?1"))?;
    statement.query_and_then([seq], read)?.next().transpose()
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Entry> {
    let timestamp = |index: usize, ms: i64| Timestamp::from_millisecond(ms).map_err(|_| out_of_range(index, ms));
    let moment: Option<i64> = row.get(8)?;
    let facts = Facts {
        instance_id: row.get(2)?,
        message_id: row.get(3)?,
        status: Status::new(row.get::<_, String>(4)?),
        phone: row.get(5)?,
        participant: row.get(6)?,
        device: row.get(7)?,
        moment: moment.map(|ms| timestamp(8, ms)).transpose()?,
    };
    let transition: i64 = row.get(10)?;
    let previous: Option<i64> = row.get(11)?;
    let ids: Option<(i64, i64)> = row.get::<_, Option<i64>>(13)?.zip(row.get(14)?);
    let text: Option<String> = row.get(15)?;
    let ids = ids.map(|(start, end)| start as usize..end as usize);
    let is_group = row.get(9)?;
    let callback = match text {
        Some(text) => Body { text, ids }.cut_to(&facts.message_id),
        None => callback::rewrite(&facts, is_group),
    };
    let change = StatusChange {
        is_group,
        received_at: timestamp(1, row.get(1)?)?,
        transition: Transition::from_number(transition).ok_or_else(|| out_of_range(10, transition))?,
        previous: previous.and_then(Rank::from_number),
        since_previous_ms: row.get(12)?,
        callback,
        facts,
    };
    Ok(Entry { seq: row.get(0)?, change })
}

fn out_of_range(index: usize, value: i64) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, Type::Integer, format!("{value} is out of range").into())
}
