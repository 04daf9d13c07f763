//! What becomes of changes that were given to the sink.

use std::time::Duration;

use jiff::Timestamp;
use tokio::task::{Id, JoinError};
use tokio::time::Instant;

use super::window::Key;
use super::{AWAY_AFTER, Away, Drain, Lane, Origin, backoff};
use crate::sink::{Delivery, Failure, FailureKind};
use crate::store::{Deferred, Outcome, Reason};

impl Drain {
    /// A lane has ended.
    pub(super) fn joined(&mut self, joined: Result<(Id, Vec<Result<(), Failure>>), JoinError>) {
        let (id, mut outcomes) = match joined {
            Ok(joined) => joined,
            // The panic hook has said where.
            Err(error) => (error.id(), vec![Err(fault("a fault in the sink"))]),
        };
        let Some(Lane { keys, changes, origin, probe }) = self.under_way.remove(&id) else { return };
        for key in &keys {
            self.busy.remove(key);
        }
        if outcomes.is_empty() {
            // Or it would be given again and again without a pause.
            outcomes.push(Err(fault("the sink did not say what became of it")));
        }
        if matches!(origin, Origin::Fresh) {
            changes.iter().skip(outcomes.len()).for_each(|change| self.window.put_back(change.clone()));
        }
        let mut delivered = 0;
        for ((key, change), outcome) in keys.into_iter().zip(changes.iter()).zip(outcomes) {
            match outcome {
                Ok(()) => {
                    self.close(key, change, origin);
                    self.succeeded(probe);
                    delivered += 1;
                }
                Err(failure) => {
                    let is_done_with = self.failed(key, change, origin, probe, failure);
                    // A replay has a place and no rows: those after this one would move the place past it.
                    if !is_done_with && matches!(origin, Origin::Replay) {
                        break;
                    }
                }
            }
        }
        for change in changes.iter() {
            self.erased.remove(&change.seq);
        }
        if delivered > 0 && self.away.is_none() {
            let full = self.config.concurrency(self.sink.as_ref());
            (self.width, self.burst) = ((self.width * 2).min(full), (self.burst * 2).min(self.sink.batch()));
        }
        self.standing.update(|snapshot| {
            snapshot.deferred = self.waiting.len();
            if delivered > 0 {
                snapshot.delivered += delivered;
                snapshot.last_success = Some(Timestamp::now());
            }
        });
    }

    /// This change is done with, by delivery or by a row of its own.
    fn close(&mut self, key: Key, change: &Delivery, origin: Origin) {
        self.blamed.remove(&key);
        match origin {
            Origin::Fresh => self.window.done(change.seq),
            Origin::Retry(_) => {
                self.outcomes.push(Outcome::Settled(change.seq));
                self.waiting.finish(key, None);
            }
            Origin::Replay => self.replayed(change.seq),
        }
    }

    fn succeeded(&mut self, probe: bool) {
        if probe || self.away.is_none() {
            self.alive();
            self.failing.clear();
        }
    }

    /// The destination takes or refuses: it is there.
    fn alive(&mut self) {
        if let Some(away) = self.away.take() {
            self.failing.clear();
            let seconds = away.since.elapsed().as_secs();
            tracing::info!(sink = %self.standing.name(), away_seconds = seconds, "the destination is back");
            self.standing.update(|snapshot| snapshot.away_since = None);
        }
    }

    /// Whether this was the end of the attempt: the change is dead or deferred now. Otherwise it is given again as if it had not been.
    fn failed(&mut self, key: Key, change: &Delivery, origin: Origin, probe: bool, failure: Failure) -> bool {
        let Failure { kind, cause } = failure;
        self.standing.update(|snapshot| {
            snapshot.failed += 1;
            snapshot.failures.count(kind);
            snapshot.last_error = Some(cause.clone());
        });
        if self.erased.contains(&change.seq) {
            self.close(key, change, origin);
            return true;
        }
        let after = match kind {
            FailureKind::Refused => {
                if probe {
                    self.alive();
                }
                let attempts = self.attempts(origin);
                self.die(key, change, origin, attempts, Reason::Refused, cause);
                return true;
            }
            FailureKind::Gone => {
                self.set_aside(key, change, origin);
                // Others were under way when the first one was told.
                if !self.paused {
                    tracing::error!(sink = %self.standing.name(), cause, "the destination is gone for good: the sink is paused until it is resumed");
                    self.pause_because("gone");
                }
                return false;
            }
            // One that has sent it away before, and does so again when others are taken, has itself to blame: it is tried again
            // like any that fails.
            FailureKind::Away { after } if self.away.is_none() && !self.blamed.insert(key) => after,
            FailureKind::Away { after } => {
                self.failing.insert(key);
                self.set_aside(key, change, origin);
                self.go_away(after, &cause);
                return false;
            }
            FailureKind::TryAgain { after } => after,
        };
        self.failing.insert(key);
        if self.failing.len() >= AWAY_AFTER || self.away.is_some() {
            self.set_aside(key, change, origin);
            self.go_away(after, &cause);
            return false;
        }
        let attempts = self.attempts(origin);
        if attempts >= self.config.attempts {
            self.die(key, change, origin, attempts, Reason::Exhausted, cause);
            return true;
        }
        let pause = backoff::pause(&self.config.backoff, attempts, after);
        let deferred = Deferred { seq: change.seq, attempts, due_at: self.clock.after(pause), in_flight: false };
        if self.standing.retry_lines.admit() {
            tracing::warn!(
                sink = %self.standing.name(),
                id = change.change.facts.event_id(),
                attempt = attempts,
                of = self.config.attempts,
                cause,
                next_in_ms = pause.as_millis(),
                "not delivered; it is tried again, the later ones of its message after it"
            );
        }
        match origin {
            Origin::Retry(_) => {
                self.outcomes.push(Outcome::Deferred(deferred));
                self.waiting.finish(key, Some(deferred));
            }
            _ => {
                self.close(key, change, origin);
                self.defer(key, deferred);
            }
        }
        true
    }

    pub(super) fn defer(&mut self, key: Key, deferred: Deferred) {
        // One that is deferred already, as a replay may find it, keeps its attempts.
        if self.waiting.insert(key, deferred) {
            self.outcomes.push(Outcome::Deferred(deferred));
        }
        self.standing.update(|snapshot| snapshot.deferred = self.waiting.len());
    }

    /// The attempts made at a change, the one that just failed included.
    fn attempts(&self, origin: Origin) -> u32 {
        match origin {
            Origin::Retry(deferred) => deferred.attempts.max(1),
            _ => 1,
        }
    }

    fn die(&mut self, key: Key, change: &Delivery, origin: Origin, attempts: u32, reason: Reason, cause: String) {
        self.close(key, change, origin);
        let deferred = Deferred { seq: change.seq, attempts, due_at: self.clock.now(), in_flight: false };
        self.bury(change.clone(), deferred, reason, cause);
    }

    pub(super) fn bury(&mut self, entry: Delivery, deferred: Deferred, reason: Reason, cause: String) {
        if self.standing.dead_lines.admit() {
            tracing::error!(
                sink = %self.standing.name(),
                id = entry.change.facts.event_id(),
                attempts = deferred.attempts,
                reason = reason.name(),
                cause,
                "not delivered, and not tried again: it is kept as a dead letter"
            );
        }
        self.outcomes.push(Outcome::Settled(deferred.seq));
        let (entry, attempts) = (Box::new(entry), deferred.attempts);
        self.outcomes.push(Outcome::Dead { entry, attempts, reason, cause });
        self.standing.count_dead(|dead| dead + 1);
    }

    /// This one was not its own fault: it is given again as if it had not been given. Its attempt doesn't count.
    fn set_aside(&mut self, key: Key, change: &Delivery, origin: Origin) {
        match origin {
            Origin::Fresh => self.window.put_back(change.clone()),
            Origin::Retry(attempt) => {
                let attempts = attempt.attempts - u32::from(attempt.in_flight);
                let deferred = Deferred { attempts, in_flight: false, ..attempt };
                if attempt.in_flight {
                    self.outcomes.push(Outcome::Deferred(deferred));
                }
                self.waiting.finish(key, Some(deferred));
            }
            // It is still the first of the replay.
            Origin::Replay => {}
        }
    }

    /// The next one is a probe, after a pause. Lanes that end while it is away say nothing new, but for a time that is asked for.
    fn go_away(&mut self, after: Option<Duration>, cause: &str) {
        let now = Instant::now();
        match &mut self.away {
            None => {
                let pause = backoff::pause(&self.config.backoff, 1, after);
                tracing::warn!(
                    sink = %self.standing.name(),
                    cause,
                    next_in_ms = pause.as_millis(),
                    "the destination is away: the sink gets nothing until a probe succeeds, and its changes wait in the store"
                );
                self.away = Some(Away { since: now, probe_at: now + pause, failures: 1, is_idle: false });
                self.standing.update(|snapshot| snapshot.away_since = Some(Timestamp::now()));
            }
            Some(away) if away.probe_at <= now => {
                away.failures += 1;
                away.probe_at = now + backoff::pause(&self.config.backoff, away.failures, after);
            }
            Some(away) => {
                let asked = after.unwrap_or_default().min(self.config.backoff.max);
                away.probe_at = away.probe_at.max(now + asked);
            }
        }
        (self.width, self.burst) = (1, 1);
    }
}

/// What is a sink's own fault: another attempt may do better.
fn fault(what: &str) -> Failure {
    Failure { kind: FailureKind::TryAgain { after: None }, cause: what.to_owned() }
}
