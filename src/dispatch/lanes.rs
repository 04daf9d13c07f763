//! What is given to the sink next: fresh changes, deferred ones that are due, a probe, a replay.

use std::sync::Arc;

use tokio::time::Instant;

use super::window::Key;
use super::{Drain, Lane, Origin};
use crate::sink::Delivery;
use crate::store::{Deferred, Error, Outcome};

impl Drain {
    /// Starts as many lanes as there may be.
    pub(super) async fn start(&mut self) -> Result<(), Error> {
        if self.paused {
            return Ok(());
        }
        if let Some(away) = &self.away {
            if self.lanes.is_empty() && away.probe_at <= Instant::now() {
                self.start_probe().await?;
                let is_idle = self.lanes.is_empty();
                if let Some(away) = &mut self.away {
                    away.is_idle = is_idle;
                }
            }
            return Ok(());
        }
        while self.lanes.len() < self.width {
            let size = self.window.waiting().div_ceil(self.width).min(self.burst);
            let is_turn = self.width > 1 || self.retries_turn || self.window.waiting() == 0;
            self.retries_turn = !self.retries_turn;
            if is_turn && self.may_retry() && self.start_retry(true).await? {
                continue;
            }
            if !self.start_fresh(size) && !self.start_replay().await? {
                break;
            }
        }
        Ok(())
    }

    /// Starts a lane of one change. Not of those that have failed since the last delivery, until all others have, too: when it is
    /// they that fail and not the destination, another one shows it.
    pub(super) async fn start_probe(&mut self) -> Result<(), Error> {
        for _ in 0..2 {
            if self.start_fresh(1) || self.start_retry(false).await? || self.start_replay().await? {
                return Ok(());
            }
            self.failing.clear();
        }
        Ok(())
    }

    /// Deferred changes have a quarter of the lanes, so that they don't hold up fresh ones; where there is but one they take turns.
    pub(super) fn may_retry(&self) -> bool {
        let retries = self.under_way.values().filter(|lane| matches!(lane.origin, Origin::Retry(_))).count();
        retries < self.width.div_ceil(4)
    }

    /// A lane of at most `size` changes from the window; `false` when there are none to give.
    pub(super) fn start_fresh(&mut self, size: usize) -> bool {
        let waiting = &self.waiting;
        // While it is away nothing is busy, and what has failed is no probe.
        let skipped = if self.away.is_some() { &self.failing } else { &self.busy };
        // Where there is but one lane, all are given in the order stored.
        let in_order = self.config.concurrency(self.sink.as_ref()) == 1;
        let is_held = |key| waiting.holds(key);
        let taken = self.window.take(size, skipped, is_held, self.config.only_latest, in_order);
        if taken.overtaken > 0 {
            tracing::debug!(sink = %self.standing.name(), changes = taken.overtaken, "overtaken by later changes, not given");
        }
        for (key, entry) in taken.held {
            self.defer(key, Deferred { seq: entry.seq, attempts: 0, due_at: self.clock.now(), in_flight: false });
        }
        if taken.lane.is_empty() {
            return false;
        }
        let (keys, changes) = taken.lane.into_iter().unzip();
        self.launch(keys, changes, Origin::Fresh);
        true
    }

    /// A lane of one deferred change that is due. Its attempt is on disk before it is made, when it `counts`.
    pub(super) async fn start_retry(&mut self, counts: bool) -> Result<bool, Error> {
        let (now, is_away, failing) = (self.clock.now(), self.away.is_some(), &self.failing);
        let due = self.waiting.take_due(now, |key| is_away && failing.contains(&key));
        let Some((key, deferred)) = due else { return Ok(false) };
        let entry = match self.feed.find(deferred.seq).await {
            Ok(Some(entry)) => entry,
            Ok(None) => {
                self.outcomes.push(Outcome::Settled(deferred.seq));
                self.waiting.finish(key, None);
                return Ok(true);
            }
            Err(error) => {
                self.waiting.finish(key, Some(deferred));
                return Err(error);
            }
        };
        if self.busy.contains(&key) {
            let due_at = self.clock.after(self.config.backoff.min);
            self.waiting.finish(key, Some(Deferred { due_at, ..deferred }));
            return Ok(false);
        }
        let mut attempt = deferred;
        if counts {
            attempt = Deferred { attempts: deferred.attempts + 1, in_flight: true, ..deferred };
            self.outcomes.push(Outcome::Deferred(attempt));
            if let Err(error) = self.settle().await {
                self.waiting.finish(key, Some(deferred));
                return Err(error);
            }
        }
        self.launch(vec![key], vec![entry], Origin::Retry(attempt));
        Ok(true)
    }

    pub(super) fn launch(&mut self, keys: Vec<Key>, changes: Vec<Delivery>, origin: Origin) {
        let changes: Arc<[Delivery]> = changes.into();
        self.busy.extend(&keys);
        let (sink, given) = (Arc::clone(&self.sink), Arc::clone(&changes));
        let task = self.lanes.spawn(async move { sink.deliver(&given).await });
        self.under_way.insert(task.id(), Lane { keys, changes, origin, probe: self.away.is_some() });
    }
}
