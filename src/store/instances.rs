//! When each connected account was last heard of, and whether it is quiet for longer than it usually is.
//!
//! What is usual is learned from the last seven days on which an instance had callbacks: their longest pause, so that nights and
//! weekends are part of it. The rows are few, and are written with the callbacks that change them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, params};
use serde::Serialize;

use super::Store;
use crate::status::with_milliseconds;

/// The most instances that are known by name; those beyond are one, [`OTHER`].
const MAX_INSTANCES: usize = 100;

/// The longest id that is kept. Longer than any real one; an instance with a longer one is among the others.
const MAX_ID_BYTES: usize = 128;

const OTHER: &str = "other";

/// For how many days a pause counts, the day of the last callback included.
const REMEMBERED_DAYS: i64 = 7;

/// On how many of those an instance has to have had callbacks before its silence is anything unusual.
const USUAL_FROM_DAYS: usize = 3;

/// No silence is shorter, however busy the instance is.
const SHORTEST_SILENCE: Duration = Duration::from_secs(3600);

/// An instance that was not heard of for this long is one that is not used any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

const DAY_MS: i64 = 24 * 3600 * 1000;

/// A connected account, and whether it is still heard of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Instance {
    /// Its id; `None` for callbacks that name no instance, and `other` for all those beyond the hundred that are kept apart.
    pub instance_id: Option<String>,
    /// When the last callback came from it.
    #[serde(serialize_with = "to_the_millisecond")]
    pub last_callback_at: Timestamp,
    /// Whether it is quiet for longer than it usually is.
    pub silent: bool,
    /// How long it has to be quiet for that, in seconds; `None` while too little is known of it.
    pub silent_after_seconds: Option<u64>,
}

fn to_the_millisecond<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&with_milliseconds(*at))
}

impl Store {
    /// The connected accounts that callbacks came from in the last 30 days. Read from memory.
    pub fn instances(&self) -> Vec<Instance> {
        let (now, opened_at) = (Timestamp::now(), self.inner.shared.opened_at);
        let known = self.inner.shared.instances();
        let not_forgotten = known.iter().filter(|(_, history)| !history.is_forgotten(now));
        not_forgotten
            .map(|(id, history)| Instance {
                instance_id: Some(id.clone()).filter(|id| !id.is_empty()),
                last_callback_at: history.last,
                silent: history.is_silent(now, opened_at),
                silent_after_seconds: history.silent_after().map(|after| after.as_secs()),
            })
            .collect()
    }
}

/// The instances by id; the empty one for callbacks that name none.
pub(super) type Instances = BTreeMap<String, History>;

/// What is remembered of an instance.
#[derive(Clone, Debug)]
pub(super) struct History {
    last: Timestamp,
    /// Days (UTC, since 1970) on which it had callbacks, and the longest pause in milliseconds that ended on each.
    days: Vec<(i64, i64)>,
}

impl History {
    fn new(at: Timestamp) -> Self {
        Self { last: at, days: vec![(day(at), 0)] }
    }

    /// A callback has come. A pause while nobody listened is none of the instance's.
    fn heard(&mut self, at: Timestamp, opened_at: Timestamp) {
        let pause = at.as_millisecond() - self.last.max(opened_at).as_millisecond();
        let today = day(at);
        match self.days.iter_mut().find(|(day, _)| *day == today) {
            Some((_, longest)) => *longest = pause.max(*longest),
            None => self.days.push((today, pause.max(0))),
        }
        self.days.retain(|(day, _)| (today - REMEMBERED_DAYS + 1..=today).contains(day));
        self.last = at;
    }

    /// How long it has to be quiet to be silent: twice its longest pause.
    fn silent_after(&self) -> Option<Duration> {
        let longest = self.days.iter().map(|(_, pause)| *pause).max()?;
        let twice = Duration::from_millis(u64::try_from(longest).unwrap_or_default()) * 2;
        (self.days.len() >= USUAL_FROM_DAYS).then_some(twice.max(SHORTEST_SILENCE))
    }

    fn is_silent(&self, now: Timestamp, opened_at: Timestamp) -> bool {
        let quiet = Duration::try_from(now.duration_since(self.last.max(opened_at))).unwrap_or_default();
        self.silent_after().is_some_and(|after| quiet > after)
    }

    fn is_forgotten(&self, now: Timestamp) -> bool {
        Duration::try_from(now.duration_since(self.last)).is_ok_and(|quiet| quiet > FORGOTTEN_AFTER)
    }
}

fn day(at: Timestamp) -> i64 {
    at.as_millisecond().div_euclid(DAY_MS)
}

/// Reads what is known, and deletes those that are not used any more.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Instances> {
    let mut statement = connection.prepare("SELECT instance_id, last_callback_at, days FROM instance")?;
    let rows = statement.query_map([], |row| {
        let days: String = row.get(2)?;
        let last = Timestamp::from_millisecond(row.get(1)?).unwrap_or_default();
        Ok((row.get(0)?, History { last, days: serde_json::from_str(&days).unwrap_or_default() }))
    })?;
    let mut known = rows.collect::<rusqlite::Result<Instances>>()?;
    let now = Timestamp::now();
    for id in known.iter().filter(|(_, history)| history.is_forgotten(now)).map(|(id, _)| id) {
        connection.execute("DELETE FROM instance WHERE instance_id = ?1", [id])?;
    }
    known.retain(|_, history| !history.is_forgotten(now));
    Ok(known)
}

/// Writes when callbacks of one transaction came, by instance id; what has changed of `known`, for when it is committed.
pub(super) fn record(
    connection: &Connection,
    known: &Instances,
    heard: BTreeMap<&str, Timestamp>,
    opened_at: Timestamp,
) -> rusqlite::Result<Instances> {
    let mut changed = Instances::new();
    for (id, at) in heard {
        let is_known = known.contains_key(id) || changed.contains_key(id);
        let has_room = id.len() <= MAX_ID_BYTES && known.len() + changed.len() < MAX_INSTANCES;
        let id = if is_known || has_room { id } else { OTHER };
        let history = match changed.get(id).or_else(|| known.get(id)) {
            Some(history) => {
                let mut history = history.clone();
                history.heard(at, opened_at);
                history
            }
            None => History::new(at),
        };
        changed.insert(id.to_owned(), history);
    }
    for (id, History { last, days }) in &changed {
        let days =
            serde_json::to_string(days).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        connection.prepare_cached("INSERT OR REPLACE INTO instance VALUES (?1, ?2, ?3)")?.execute(params![
            id,
            last.as_millisecond(),
            days
        ])?;
    }
    Ok(changed)
}

/// Takes what was committed into what is known, and leaves out those that are not used any more.
pub(super) fn update(known: &mut Instances, changed: Instances) {
    let is_new = changed.keys().any(|id| !known.contains_key(id));
    known.extend(changed);
    if is_new {
        let now = Timestamp::now();
        known.retain(|_, history| !history.is_forgotten(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    /// Heard at these times, in hours, by a receiver that always listened.
    fn heard(hours: &[i64]) -> History {
        let mut history = History::new(at(hours[0] * HOUR));
        hours[1..].iter().for_each(|hour| history.heard(at(hour * HOUR), at(0)));
        history
    }

    /// After how many hours of quiet it is silent.
    fn silent_after(history: &History) -> Option<i64> {
        let after = history.silent_after()?;
        let end = i64::try_from(after.as_millis()).unwrap() + history.last.as_millisecond();
        assert!(!history.is_silent(at(end), at(0)) && history.is_silent(at(end + 1), at(0)));
        Some(i64::try_from(after.as_secs()).unwrap() / 3600)
    }

    #[test]
    fn an_instance_is_silent_after_twice_its_longest_pause_of_the_last_seven_days() {
        // From 8 to 18 o'clock.
        let office_hours = |days: std::ops::Range<i64>| days.flat_map(|day| (8..=18).map(move |hour| day * 24 + hour));
        let days = |days| heard(&office_hours(days).collect::<Vec<_>>());
        assert_eq!(silent_after(&days(0..2)), None, "two days say nothing of what is usual");
        assert_eq!(silent_after(&days(0..3)), Some(28), "nights are usual");
        let week: Vec<_> = office_hours(0..5).chain(office_hours(7..12)).collect();
        assert_eq!(silent_after(&heard(&week)), Some(2 * 62), "so is a weekend");
        let after_it: Vec<_> = office_hours(0..5).chain(office_hours(7..15)).collect();
        assert_eq!(silent_after(&heard(&after_it)), Some(28), "for a week");
    }

    #[test]
    fn nothing_shorter_than_an_hour_is_a_silence() {
        let busy: Vec<_> = (0..72).collect();
        assert_eq!(silent_after(&heard(&busy)), Some(2));
        let mut busier = History::new(at(0));
        (0..72 * 60).for_each(|minute| busier.heard(at(minute * 60_000), at(0)));
        assert_eq!(silent_after(&busier), Some(1));
    }

    #[test]
    fn what_was_missed_while_nobody_listened_is_no_pause_and_no_silence() {
        let mut history = heard(&(0..72).collect::<Vec<_>>());
        assert!(!history.is_silent(at(100 * HOUR), at(99 * HOUR)));
        assert!(history.is_silent(at(102 * HOUR), at(99 * HOUR)));
        history.heard(at(100 * HOUR), at(99 * HOUR));
        assert_eq!(silent_after(&history), Some(2));
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_nobody_heard_of_in_the_future() {
        let mut history = heard(&[1000]);
        history.heard(at(10 * HOUR), at(0));
        assert_eq!((history.last, history.days), (at(10 * HOUR), vec![(0, 0)]));
    }
}
