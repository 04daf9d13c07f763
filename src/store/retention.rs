//! Deleting from the log's beginning, a slice at a time, and never what a configured sink has still to deliver. The texts of
//! callbacks may go before the changes.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::seen;
use crate::callback::MAX_IDS;
use crate::status::{Facts, Status};

/// The most rows in one slice. A callback's text is kept with its first change, so a slice ends where a callback ends, and
/// one callback must fit.
const SLICE: usize = MAX_IDS;

/// The most rejected bodies deleted at once.
const REJECTED_SLICE: i64 = 100;

/// About the most bytes of text in one slice. What is deleted is overwritten, which takes as much room in the write-ahead log, and room
/// may be what is wanted.
const SLICE_BYTES: i64 = 512 << 10;

/// Deletes the oldest changes up to `delivered`, of those received before `before` (`None`: of any age); how many it were.
pub(super) fn delete_slice(
    connection: &mut Connection,
    delivered: i64,
    before: Option<Timestamp>,
    last_seq: i64,
) -> rusqlite::Result<usize> {
    let before = before.map_or(i64::MAX, Timestamp::as_millisecond);
    let Some(end) = end_of_slice(connection, 0, delivered, before)? else { return Ok(0) };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // The newest row may be among them, and its number must not be given out again.
    transaction.execute("UPDATE last_seq SET seq = ?1", [last_seq])?;
    for facts in keys(&transaction, end)? {
        seen::forget(&transaction, &facts, end)?;
    }
    let deleted = transaction.execute("DELETE FROM change WHERE seq <= ?1", [end])?;
    transaction.commit()?;
    Ok(deleted)
}

/// Takes the texts out of the oldest changes up to `delivered` that still have them, of those received before `before`; how many
/// changes it looked at.
pub(super) fn cut_slice(connection: &mut Connection, delivered: i64, before: Timestamp) -> rusqlite::Result<usize> {
    let after: i64 = connection.prepare_cached("SELECT seq FROM body_cut")?.query_row([], |row| row.get(0))?;
    let Some(end) = end_of_slice(connection, after, delivered, before.as_millisecond())? else { return Ok(0) };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("UPDATE body_cut SET seq = ?1", [end])?;
    transaction.execute(
        "UPDATE change SET body = NULL, body_of = NULL, ids_start = NULL, ids_end = NULL
         WHERE seq > ?1 AND seq <= ?2 AND (body IS NOT NULL OR body_of IS NOT NULL)",
        [after, end],
    )?;
    transaction.commit()?;
    Ok((end - after) as usize)
}

/// This change has its text again.
pub(super) fn cut_again_from(connection: &Connection, seq: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE body_cut SET seq = min(seq, ?1 - 1)")?.execute([seq]).map(drop)
}

/// Deletes the oldest rejected bodies of those received before `before` (`None`: of any age); how many it were.
pub(super) fn delete_rejected(connection: &Connection, before: Option<Timestamp>) -> rusqlite::Result<usize> {
    let before = before.map_or(i64::MAX, Timestamp::as_millisecond);
    let mut oldest =
        connection.prepare_cached("SELECT id, received_at, octet_length(body) FROM rejected ORDER BY id LIMIT ?1")?;
    let mut rows = oldest.query([REJECTED_SLICE])?;
    let (mut ids, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let (id, received_at, text): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if received_at < before {
            ids.push(id);
            bytes += text;
        }
        if bytes >= SLICE_BYTES {
            break;
        }
    }
    drop(rows);
    let mut delete = connection.prepare_cached("DELETE FROM rejected WHERE id IN (SELECT value FROM json_each(?1))")?;
    delete.execute([serde_json::Value::from(ids).to_string()])
}

/// The last row of the slice that begins after `after`, or `None` when there is nothing in it.
fn end_of_slice(connection: &Connection, after: i64, delivered: i64, before: i64) -> rusqlite::Result<Option<i64>> {
    let mut oldest = connection.prepare_cached(
        "SELECT seq, received_at, octet_length(body) FROM change WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3",
    )?;
    let mut rows = oldest.query(params![after, delivered, SLICE as i64])?;
    let (mut end, mut bytes): (Option<i64>, i64) = (None, 0);
    while let Some(row) = rows.next()? {
        let (received_at, text): (i64, Option<i64>) = (row.get(1)?, row.get(2)?);
        // Up to the first that is young: one old row among young ones, as a clock that was wrong or a rejected callback that was retried
        // leaves, must not take those before it along.
        if received_at >= before || text.is_some_and(|text| bytes > 0 && bytes + text > SLICE_BYTES) {
            break;
        }
        bytes += text.unwrap_or_default();
        end = Some(row.get(0)?);
    }
    drop(rows);
    let Some(end) = end else { return Ok(None) };
    // Changes that share the text of an earlier row keep it where it is.
    let shared: Option<Option<i64>> = connection
        .prepare_cached("SELECT body_of FROM change WHERE seq > ?1 ORDER BY seq LIMIT 1")?
        .query_row([end], |row| row.get(0))
        .optional()?;
    let end = shared.flatten().map_or(end, |first| end.min(first - 1));
    let any =
        connection.prepare_cached("SELECT 1 FROM change WHERE seq > ?1 AND seq <= ?2 LIMIT 1")?.exists([after, end])?;
    Ok(any.then_some(end))
}

/// The messages and recipients of the rows up to `end`.
fn keys(connection: &Connection, end: i64) -> rusqlite::Result<Vec<Facts>> {
    connection
        .prepare_cached("SELECT message_id, instance_id, phone, participant FROM change WHERE seq <= ?1")?
        .query_map([end], |row| {
            Ok(Facts {
                message_id: row.get(0)?,
                instance_id: row.get(1)?,
                phone: row.get(2)?,
                participant: row.get(3)?,
                status: Status::new(""),
                device: None,
                moment: None,
            })
        })?
        .collect()
}
