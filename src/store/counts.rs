//! What the writer counts of what it has committed, since the start.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use super::Store;
use crate::metrics::Seconds;
use crate::status::{Status, Transition};

/// The statuses that are counted by name; all others together.
const STATUSES: [&str; 6] = ["SENT", "RECEIVED", "READ", "PLAYED", "READ-SELF", "other"];

/// How many changes of each status did what.
type Table<T> = [[T; Transition::ALL.len()]; STATUSES.len()];

/// What one transaction stores: it counts when it is committed.
#[derive(Default)]
pub(super) struct Tally {
    changes: Table<u64>,
    /// How long after its moment the last callback came.
    sender_lag_ms: Option<i64>,
}

impl Tally {
    pub(super) fn came(&mut self, received_at: Timestamp, moment: Option<Timestamp>) {
        let lag = moment.map(|moment| received_at.as_millisecond() - moment.as_millisecond());
        self.sender_lag_ms = lag.or(self.sender_lag_ms);
    }

    pub(super) fn stored(&mut self, status: &Status, transition: Transition) {
        let canonical = status.canonical();
        let status = STATUSES.iter().position(|known| *known == canonical).unwrap_or(STATUSES.len() - 1);
        self.changes[status][index(transition)] += 1;
    }
}

fn index(transition: Transition) -> usize {
    // They are numbered from 1.
    transition as usize - 1
}

/// What was committed.
pub(crate) struct Counts {
    changes: Table<AtomicU64>,
    /// One transaction, the sync to disk included.
    pub(crate) commit: Seconds,
    /// How long after its moment the latest callback came, in milliseconds; [`i64::MIN`] before the first one.
    sender_lag_ms: AtomicI64,
}

impl Counts {
    pub(super) fn new() -> Self {
        Self {
            changes: Default::default(),
            commit: Seconds::new(
                "plugchat_commit_seconds",
                "One transaction of the store's writer, which may hold many callbacks, the sync to disk included.",
            ),
            sender_lag_ms: AtomicI64::new(i64::MIN),
        }
    }

    pub(super) fn committed(&self, tally: &Tally, after: Duration) {
        for (counters, counts) in self.changes.iter().flatten().zip(tally.changes.iter().flatten()) {
            counters.fetch_add(*counts, Ordering::Relaxed);
        }
        if let Some(lag) = tally.sender_lag_ms {
            self.sender_lag_ms.store(lag, Ordering::Relaxed);
        }
        self.commit.observe(after);
    }

    /// Each status and transition that there can be together, and how many changes had them.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        STATUSES.into_iter().zip(&self.changes).flat_map(|(status, counters)| {
            let is_ranked = Status::new(status).rank().is_some();
            let possible = Transition::ALL.into_iter().filter(move |done| is_ranked == (*done != Transition::Unranked));
            possible.map(move |done| (status, done.name(), counters[index(done)].load(Ordering::Relaxed)))
        })
    }

    /// How long after its moment the latest callback came, in seconds; negative when the sender's clock is ahead.
    pub(crate) fn sender_lag_seconds(&self) -> Option<f64> {
        let milliseconds = self.sender_lag_ms.load(Ordering::Relaxed);
        (milliseconds != i64::MIN).then_some(milliseconds as f64 / 1000.0)
    }
}

impl Store {
    /// What was committed since the start.
    pub(crate) fn counts(&self) -> &Counts {
        &self.inner.shared.counts
    }
}
