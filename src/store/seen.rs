//! What was seen of each message and recipient: the one place that knows exact duplicates and current statuses.
//!
//! One row holds all that was seen of a message by one recipient, so that one look in the index answers both questions.
//! Rows of one message stand together, and a story with a thousand viewers stays a thousand small rows.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::phone::Number;
use crate::status::{Facts, Rank, Transition, to_hex};

/// The most that is remembered of one message and recipient. Beyond it the oldest of a status that was seen again since is
/// forgotten, and an exact duplicate of that one would be stored again, as a repeat.
const MAX_SIGHTINGS: usize = 1000;

/// What storing a change means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every fact is known already: nothing was changed.
    Duplicate,
    /// It is new, and is remembered under its sequence number.
    New { transition: Transition, previous: Option<Rank>, since_previous_ms: Option<i64> },
}

/// One change, as far as it matters to later ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sighting<'a> {
    #[serde(borrow)]
    status: Code<'a>,
    /// The chat's phone where the recipient is a participant ("" for none): without it the two could be confused.
    #[serde(borrow)]
    chat: Option<Cow<'a, str>>,
    device: Option<i64>,
    moment_ms: Option<i64>,
    seq: i64,
}

/// A canonical status in a byte; in full only when it is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Code<'a> {
    Sent,
    Received,
    Read,
    Played,
    ReadSelf,
    #[serde(borrow)]
    Other(Cow<'a, str>),
}

impl<'a> Code<'a> {
    fn of(facts: &'a Facts) -> Self {
        match facts.status.canonical() {
            Cow::Borrowed("SENT") => Self::Sent,
            Cow::Borrowed("RECEIVED") => Self::Received,
            Cow::Borrowed("READ") => Self::Read,
            Cow::Borrowed("PLAYED") => Self::Played,
            Cow::Borrowed("READ-SELF") => Self::ReadSelf,
            other => Self::Other(short(other)),
        }
    }

    fn rank(&self) -> Option<Rank> {
        match self {
            Self::Sent => Some(Rank::Sent),
            Self::Received => Some(Rank::Received),
            Self::Read => Some(Rank::Read),
            Self::Played => Some(Rank::Played),
            Self::ReadSelf | Self::Other(_) => None,
        }
    }
}

/// Looks a change up and, when it is new, remembers it under `seq`.
pub(super) fn record(connection: &Connection, facts: &Facts, seq: i64) -> rusqlite::Result<Verdict> {
    let key = key(facts);
    let stored: Option<Vec<u8>> = connection
        .prepare_cached("SELECT seen FROM message WHERE message_id = ?1 AND instance_id = ?2 AND recipient = ?3")?
        .query_row(key, |row| row.get(0))
        .optional()?;
    let mut seen = decode(stored.as_deref().unwrap_or_default());
    let sighting = Sighting {
        status: Code::of(facts),
        chat: facts.participant.is_some().then(|| short(facts.phone.as_deref().unwrap_or_default().into())),
        device: facts.device,
        moment_ms: facts.moment.map(Timestamp::as_millisecond),
        seq,
    };
    if seen.iter().any(|earlier| Sighting { seq, ..earlier.clone() } == sighting) {
        return Ok(Verdict::Duplicate);
    }
    let verdict = judge(&seen, &sighting);
    seen.push(sighting);
    if seen.len() > MAX_SIGHTINGS {
        let again = |index: usize| seen[index + 1..].iter().any(|later| later.status == seen[index].status);
        let oldest = (0..seen.len()).find(|index| again(*index)).unwrap_or(0);
        seen.remove(oldest);
    }
    let (message_id, instance_id, recipient) = key;
    let row = params![message_id, instance_id, recipient, encode(&seen)?];
    if stored.is_some() {
        connection
            .prepare_cached(
                "UPDATE message SET seen = ?4 WHERE message_id = ?1 AND instance_id = ?2 AND recipient = ?3",
            )?
            .execute(row)?;
    } else {
        connection.prepare_cached("INSERT INTO message VALUES (?1, ?2, ?3, ?4)")?.execute(row)?;
    }
    Ok(verdict)
}

/// Forgets a message and recipient when everything seen of them is at or before `last_seq`.
pub(super) fn forget(connection: &Connection, facts: &Facts, last_seq: i64) -> rusqlite::Result<()> {
    let stored: Option<Vec<u8>> = connection
        .prepare_cached("SELECT seen FROM message WHERE message_id = ?1 AND instance_id = ?2 AND recipient = ?3")?
        .query_row(key(facts), |row| row.get(0))
        .optional()?;
    let Some(stored) = stored else { return Ok(()) };
    if decode(&stored).iter().all(|sighting| sighting.seq <= last_seq) {
        connection
            .prepare_cached("DELETE FROM message WHERE message_id = ?1 AND instance_id = ?2 AND recipient = ?3")?
            .execute(key(facts))?;
    }
    Ok(())
}

/// The sequence numbers of all that was seen of a message, by any recipient in any instance, in the order stored.
pub(super) fn history(connection: &Connection, message_id: &str) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare_cached("SELECT seen FROM message WHERE message_id = ?1")?;
    let mut rows = statement.query([message_id])?;
    let mut seqs = Vec::new();
    while let Some(row) = rows.next()? {
        let seen: Vec<u8> = row.get(0)?;
        seqs.extend(decode(&seen).iter().map(|sighting| sighting.seq));
    }
    seqs.sort_unstable();
    Ok(seqs)
}

/// The message id, the instance and the recipient of a row.
pub(super) type Key = (String, String, String);

/// Somebody who is to be forgotten.
#[derive(Clone)]
pub(super) struct Person {
    pub(super) number: Arc<Number>,
    /// Changes that have the number in them somewhere, ascending.
    pub(super) seqs: Arc<[i64]>,
    /// The last change that may be meant.
    pub(super) until: i64,
}

impl Person {
    fn is_in(&self, (message_id, instance_id, recipient): &Key) -> bool {
        [message_id, instance_id, recipient].into_iter().any(|text| self.number.is_in(text))
    }

    /// Takes out what was seen of the person; whether there was something.
    fn take_from(&self, key: &Key, seen: &mut Vec<Sighting<'_>>) -> bool {
        let (before, is_in_key) = (seen.len(), self.is_in(key));
        seen.retain(|sighting| {
            let status = match &sighting.status {
                Code::Other(status) => status,
                _ => "",
            };
            let chat = sighting.chat.as_deref().unwrap_or_default();
            let is_of = is_in_key || self.number.is_in(status) || self.number.is_in(chat);
            sighting.seq > self.until || !is_of && self.seqs.binary_search(&sighting.seq).is_err()
        });
        seen.len() < before || before == 0 && is_in_key
    }
}

/// Of the next rows after `after`, at most `limit`: those of the person. And the last one, if there was one.
pub(super) fn find(
    connection: &Connection,
    person: &Person,
    after: &Key,
    limit: usize,
) -> rusqlite::Result<(Vec<Key>, Option<Key>)> {
    let (mut found, mut last) = (Vec::new(), None);
    let mut statement = connection.prepare_cached(
        "SELECT message_id, instance_id, recipient, seen FROM message
         WHERE (message_id, instance_id, recipient) > (?1, ?2, ?3)
         ORDER BY message_id, instance_id, recipient LIMIT ?4",
    )?;
    let mut rows = statement.query(params![after.0, after.1, after.2, limit as i64])?;
    while let Some(row) = rows.next()? {
        let key = (row.get(0)?, row.get(1)?, row.get(2)?);
        let seen: Vec<u8> = row.get(3)?;
        if person.take_from(&key, &mut decode(&seen)) {
            found.push(key.clone());
        }
        last = Some(key);
    }
    Ok((found, last))
}

/// Forgets in the rows of these keys what was seen of the person, and a row with it when of nothing else in it a change is kept. How
/// many rows.
pub(super) fn erase(connection: &Connection, person: &Person, keys: &[Key]) -> rusqlite::Result<usize> {
    for key @ (message_id, instance_id, recipient) in keys {
        let stored: Option<Vec<u8>> = connection
            .prepare_cached("SELECT seen FROM message WHERE message_id = ?1 AND instance_id = ?2 AND recipient = ?3")?
            .query_row(params![message_id, instance_id, recipient], |row| row.get(0))
            .optional()?;
        let mut seen = decode(stored.as_deref().unwrap_or_default());
        person.take_from(key, &mut seen);
        let mut exists = connection.prepare_cached("SELECT 1 FROM change WHERE seq = ?1")?;
        let mut is_kept = false;
        for sighting in &seen {
            is_kept = is_kept || exists.exists([sighting.seq])?;
        }
        if is_kept {
            connection
                .prepare_cached(
                    "UPDATE message SET seen = ?4 WHERE message_id = ?1 AND instance_id = ?2 AND recipient = ?3",
                )?
                .execute(params![message_id, instance_id, recipient, encode(&seen)?])?;
        } else {
            connection
                .prepare_cached("DELETE FROM message WHERE message_id = ?1 AND instance_id = ?2 AND recipient = ?3")?
                .execute(params![message_id, instance_id, recipient])?;
        }
    }
    Ok(keys.len())
}

fn judge(seen: &[Sighting<'_>], sighting: &Sighting<'_>) -> Verdict {
    let previous = seen.iter().filter_map(|earlier| earlier.status.rank()).max();
    let first_moment =
        seen.iter().filter(|earlier| earlier.status.rank() == previous).filter_map(|earlier| earlier.moment_ms).min();
    let since_previous_ms =
        previous.and(first_moment).zip(sighting.moment_ms).map(|(first, this)| this.saturating_sub(first));
    let transition = match sighting.status.rank() {
        None => Transition::Unranked,
        rank if rank > previous => Transition::Advance,
        _ if seen.iter().any(|earlier| earlier.status == sighting.status) => Transition::Repeat,
        _ => Transition::Late,
    };
    Verdict::New { transition, previous, since_previous_ms }
}

fn key(facts: &Facts) -> (&str, &str, &str) {
    (&facts.message_id, facts.instance_id.as_deref().unwrap_or_default(), facts.recipient())
}

fn encode(seen: &[Sighting<'_>]) -> rusqlite::Result<Vec<u8>> {
    postcard::to_stdvec(seen).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// What can't be read is as if it had not been seen: one damaged row must not hold up everything that is stored with it.
fn decode(stored: &[u8]) -> Vec<Sighting<'_>> {
    if stored.is_empty() {
        return Vec::new();
    }
    postcard::from_bytes(stored).unwrap_or_else(|error| {
        tracing::error!(%error, "what was seen of a message cannot be read: the database is damaged; its next status counts as its first");
        Vec::new()
    })
}

/// Text as it is kept of a sighting: what is longer than any known status or chat by its digest, since all of it is written anew
/// with each change of the message.
fn short(text: Cow<'_, str>) -> Cow<'_, str> {
    const LONGEST: usize = 128;
    if text.len() <= LONGEST {
        return text;
    }
    Cow::Owned(format!("sha256:{}", to_hex(&Sha256::digest(text.as_bytes()))))
}
