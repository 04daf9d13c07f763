//! Giving a sink stored changes again: beside its fresh ones, in one lane at a time, at a rate, and on over a restart.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::window::Key;
use super::{Drain, Ended, Origin, Replay};
use crate::sink::Delivery;
use crate::store::{Deferred, Error, Outcome};

/// How long to wait for a change of the same message that is under way.
const BUSY_AGAIN: Duration = Duration::from_millis(20);

/// A replay that is going on.
pub(super) struct Running {
    replay: Replay,
    /// What was read, the next one first; one leaves when it is done with.
    changes: VecDeque<Delivery>,
    read_to: i64,
    next_at: Instant,
}

impl Running {
    /// Leaves these out.
    pub(super) fn forget(&mut self, is_erased: impl Fn(i64) -> bool) {
        self.changes.retain(|change| !is_erased(change.seq));
    }
}

impl Drain {
    /// Goes on with the replay that a stop interrupted.
    pub(super) async fn restore_replay(&mut self) -> Result<(), Error> {
        if self.replay.is_none()
            && let Some(replay) = self.feed.replay().await?
        {
            self.resume_replay(replay);
        }
        Ok(())
    }

    pub(super) fn begin_replay(&mut self, replay: Replay) {
        tracing::info!(sink = %self.standing.name(), after = replay.position, until = replay.until, "a replay begins");
        self.outcomes.push(Outcome::Replay(Some(replay)));
        self.resume_replay(replay);
    }

    fn resume_replay(&mut self, replay: Replay) {
        let (changes, read_to) = (VecDeque::new(), replay.position);
        self.replay = Some(Running { replay, changes, read_to, next_at: Instant::now() });
        self.standing.update(|snapshot| (snapshot.replay, snapshot.last_replay) = (Some(replay), None));
    }

    /// Ends the replay, if there is one. What is under way of it is still delivered.
    pub(super) fn end_replay(&mut self, how: &'static str) {
        if let Some(Running { replay, .. }) = self.replay.take() {
            tracing::info!(sink = %self.standing.name(), delivered = replay.delivered, how, "the replay has ended");
            self.outcomes.push(Outcome::Replay(None));
            let ended = Ended { how, delivered: replay.delivered, at: Timestamp::now() };
            self.standing.update(|snapshot| (snapshot.replay, snapshot.last_replay) = (None, Some(ended)));
        }
    }

    /// A lane of the replay's next changes; `false` when there is none to start now.
    pub(super) async fn start_replay(&mut self) -> Result<bool, Error> {
        let is_under_way = self.under_way.values().any(|lane| matches!(lane.origin, Origin::Replay));
        let Some(running) = &mut self.replay else { return Ok(false) };
        if is_under_way || running.next_at > Instant::now() {
            return Ok(false);
        }
        if running.changes.is_empty() {
            let entries = self.feed.read(running.read_to).await?;
            let until = running.replay.until;
            let Some(last) = entries.last().map(|last| last.seq).filter(|_| running.read_to < until) else {
                self.end_replay("done");
                return Ok(false);
            };
            running.read_to = last.min(until);
            let filter = self.standing.filter();
            running
                .changes
                .extend(entries.into_iter().filter(|entry| entry.seq <= until && filter.matches(&entry.change)));
            if running.changes.is_empty() {
                // Nothing in this part is for the sink: the next part when all else had its turn, commands and a stop, too.
                return Ok(false);
            }
        }
        // About ten lanes a second at the most, so that the rate is one and not a series of bursts.
        let size = (running.replay.rate / 10.0).ceil().min(self.burst as f64) as usize;
        let mut lane = Vec::new();
        let (mut held, mut keys) = (Vec::new(), HashSet::new());
        for change in running.changes.iter().take(size.max(1)) {
            let key = Key::of(&change.change.facts);
            if self.busy.contains(&key) || !keys.insert(key) {
                break;
            }
            if self.waiting.holds(key) {
                if lane.is_empty() {
                    held.push((key, change.seq));
                }
                break;
            }
            lane.push((key, change.clone()));
        }
        let count = lane.len().max(held.len());
        let pause = Duration::from_secs_f64(count as f64 / running.replay.rate)
            .max(BUSY_AGAIN.mul_f64(f64::from(u8::from(count == 0))));
        running.next_at = Instant::now() + pause;
        for (key, seq) in held {
            self.replayed(seq);
            self.defer(key, Deferred { seq, attempts: 0, due_at: self.clock.now(), in_flight: false });
        }
        if lane.is_empty() {
            return Ok(false);
        }
        let (keys, changes) = lane.into_iter().unzip();
        self.launch(keys, changes, Origin::Replay);
        Ok(true)
    }

    /// Everything in the replay up to here is done with.
    pub(super) fn replayed(&mut self, seq: i64) {
        // It may have been cancelled while this one was under way.
        let Some(running) = &mut self.replay else { return };
        while running.changes.front().is_some_and(|change| change.seq <= seq) {
            running.changes.pop_front();
        }
        running.replay.position = seq;
        running.replay.delivered += 1;
        let replay = running.replay;
        self.standing.update(|snapshot| snapshot.replay = Some(replay));
        match self.outcomes.last_mut() {
            Some(Outcome::Replay(last)) => *last = Some(replay),
            _ => self.outcomes.push(Outcome::Replay(Some(replay))),
        }
    }

    /// When the replay has something to do next.
    pub(super) fn next_replay(&self) -> Option<Instant> {
        let is_under_way = self.under_way.values().any(|lane| matches!(lane.origin, Origin::Replay));
        self.replay.as_ref().filter(|_| !is_under_way).map(|running| running.next_at)
    }
}
