//! From the store to the sinks: one drain for each sink follows the log from the sink's own place.
//!
//! A drain shares nothing with another and nothing with reception: they meet in the store. It reads ahead into a `window`, gives
//! changes to the sink in *lanes*, as many at once as `concurrency` allows, and never two of one message and recipient at once.
//! What was delivered needs no row: the sink's place in the log moves past it. What failed is written down as deferred (`waiting`)
//! or dead, in the transaction that moves the place past it.
//!
//! - *Refused*: a dead letter.
//! - *Try again*: deferred with growing pauses (`backoff`), the later ones of its message behind it; a dead letter after
//!   `attempts`. An attempt at a deferred change counts on disk before it is made.
//! - *Away*, or several different changes failing in a row: the sink gets nothing but a probe now and then, nothing is written, and
//!   its backlog stays in the log. When it is back, it is given more bit by bit.

mod backoff;
mod replay;
mod standing;
mod waiting;
mod window;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::sink::{Delivery, DeliveryConfig, Failure, FailureKind, Sink};
use crate::store::{Deferred, Error, Feed, Outcome, Reason, Replay};
pub use standing::{Command, Ended, Snapshot, Standing, Told};
pub use waiting::MAX_DEFERRED;
use waiting::Waiting;
use window::{Key, Window};

/// The most dead letters of one sink. At it the sink reads no further until some are retried or dropped.
const MAX_DEAD: i64 = if cfg!(test) { 100 } else { 100_000 };

/// This many different changes that fail in a row are a destination that is away.
const AWAY_AFTER: usize = 5;

/// How long to wait before the store is asked again that did not answer.
const STORE_AGAIN: Duration = Duration::from_secs(1);

/// One sink and its place in the log.
pub struct Drain {
    sink: Arc<dyn Sink>,
    feed: Feed,
    config: DeliveryConfig,
    standing: Arc<Standing>,
    commands: mpsc::Receiver<Told>,
    clock: Clock,

    window: Window,
    waiting: Waiting,
    /// Changes after the sink's place that were written down as deferred or dead before the last stop.
    written: HashSet<i64>,
    /// The messages of which a change is under way.
    busy: HashSet<Key>,
    lanes: JoinSet<Result<(), Failure>>,
    under_way: HashMap<Id, Lane>,
    /// What has to be written before the sink's place may move.
    outcomes: Vec<Outcome>,

    paused: bool,
    away: Option<Away>,
    /// The messages that failed since something was delivered.
    failing: HashSet<Key>,
    /// How many lanes there may be, and how many changes in one: small after an outage, then doubled.
    width: usize,
    burst: usize,
    /// Whether the next lane is one of deferred changes rather than of fresh ones: they take turns.
    retries_turn: bool,
    replay: Option<replay::Running>,
}

/// Changes that are given in one call.
struct Lane {
    keys: Vec<Key>,
    changes: Arc<[Delivery]>,
    origin: Origin,
}

/// Where a lane's changes come from.
#[derive(Clone, Copy)]
enum Origin {
    /// The window.
    Fresh,
    /// One that was deferred; with the attempt that is being made.
    Retry(Deferred),
    /// A replay.
    Replay,
}

/// The destination takes nothing.
struct Away {
    since: Instant,
    probe_at: Instant,
    /// Probes that failed, and what made it away.
    failures: u32,
}

/// Wall-clock time that runs with Tokio's.
struct Clock {
    started: Instant,
    time: Timestamp,
}

impl Clock {
    fn now(&self) -> Timestamp {
        self.after(Duration::ZERO)
    }

    fn after(&self, pause: Duration) -> Timestamp {
        self.time.checked_add(self.started.elapsed() + pause).unwrap_or(Timestamp::MAX)
    }

    fn instant(&self, time: Timestamp) -> Instant {
        let since = time.duration_since(self.time);
        self.started + Duration::try_from(since).unwrap_or_default()
    }
}

impl Drain {
    /// For this sink, which hears `commands`.
    pub fn new(
        sink: Box<dyn Sink>,
        feed: Feed,
        config: DeliveryConfig,
        standing: Arc<Standing>,
        commands: mpsc::Receiver<Told>,
    ) -> Self {
        let (width, burst) = (config.concurrency(sink.as_ref()), sink.batch());
        Self {
            sink: sink.into(),
            window: Window::new(feed.cursor()),
            feed,
            config,
            standing,
            commands,
            clock: Clock { started: Instant::now(), time: Timestamp::now() },
            waiting: Waiting::default(),
            written: HashSet::new(),
            busy: HashSet::new(),
            lanes: JoinSet::new(),
            under_way: HashMap::new(),
            outcomes: Vec::new(),
            paused: false,
            away: None,
            failing: HashSet::new(),
            width,
            burst,
            retries_turn: false,
            replay: None,
        }
    }

    /// Follows the log until `stop`, and then to the end of what is under way.
    pub async fn run(mut self, stop: CancellationToken) {
        let standing = Arc::clone(&self.standing);
        let mut turns = tokio::time::interval(standing::STUCK_AFTER / 10);
        let mut following = std::pin::pin!(async {
            // The store logs its own trouble.
            while let Err(error) = self.follow(&stop).await {
                if error == Error::Stopped {
                    return;
                }
                standing.update(|snapshot| snapshot.store_fails = true);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(STORE_AGAIN) => {}
                }
            }
        });
        // In the same task: when the drain blocks or dies, so does its pulse.
        loop {
            tokio::select! {
                () = &mut following => return,
                _ = turns.tick() => standing.turn(),
            }
        }
    }

    /// `Err` only for the store's trouble, and with nothing lost: it can be called again.
    async fn follow(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        // What the store did not take the last time: what is there would be read as if that had not been.
        self.settle().await?;
        self.restore().await?;
        self.standing.update(|snapshot| snapshot.store_fails = false);
        while !stop.is_cancelled() {
            if self.reads_on() && self.feed.latest() > self.window.read_to() {
                self.read().await?;
            }
            self.start().await?;
            self.settle().await?;
            // Asked once more, because settling makes room.
            let (reads, wake) = (self.reads_on(), self.next_wake());
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(joined) = self.lanes.join_next_with_id(), if !self.lanes.is_empty() => self.joined(joined),
                Some(told) = self.commands.recv() => self.obey(told).await?,
                stored = self.feed.wait_beyond(self.window.read_to()), if reads => stored?,
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
        while let Some(joined) = self.lanes.join_next_with_id().await {
            self.joined(joined);
        }
        self.settle().await
    }

    /// Takes up what was left at the last stop or crash: what was in flight then is due at once.
    async fn restore(&mut self) -> Result<(), Error> {
        let paused = self.feed.paused().await?;
        self.paused = paused.is_some();
        let dead = self.feed.count_dead().await?;
        self.standing.update(|snapshot| (snapshot.paused, snapshot.dead) = (paused, dead));
        self.reload().await?;
        self.written = self.feed.written().await?.into_iter().filter(|seq| *seq > self.window.read_to()).collect();
        self.restore_replay().await
    }

    /// Reads the deferred changes that are not known yet.
    async fn reload(&mut self) -> Result<(), Error> {
        let mut after = 0;
        loop {
            let part = self.feed.deferred(after).await?;
            let Some(last) = part.last() else { break };
            after = last.seq;
            for deferred in part {
                let Some(entry) = self.feed.find(deferred.seq).await? else {
                    tracing::warn!(
                        sink = %self.standing.name(),
                        seq = deferred.seq,
                        "a deferred change is gone: retention deleted it while this sink was not configured"
                    );
                    self.outcomes.push(Outcome::Settled(deferred.seq));
                    continue;
                };
                let key = Key::of(&entry.change.facts);
                if self.busy.contains(&key) && self.under_way.values().any(|lane| lane.is_retry_of(deferred.seq)) {
                    continue;
                }
                if deferred.in_flight && deferred.attempts >= self.config.attempts {
                    self.bury(entry, deferred, Reason::Undeliverable, "the process ended during each attempt".into());
                    continue;
                }
                let due_at = if deferred.in_flight { self.clock.now() } else { deferred.due_at };
                self.waiting.insert(key, Deferred { due_at, in_flight: false, ..deferred });
            }
        }
        self.standing.update(|snapshot| snapshot.deferred = self.waiting.len());
        Ok(())
    }

    /// Whether the log is read further; says so when that changes.
    fn reads_on(&self) -> bool {
        const DEFERRED: &str = "too many changes are deferred";
        let (deferred, mut held) = (self.waiting.len(), None);
        self.standing.update(|snapshot| {
            // With some room to read on into, or it would be said anew for each change.
            let most = if snapshot.held == Some(DEFERRED) { MAX_DEFERRED / 10 * 9 } else { MAX_DEFERRED };
            held = if deferred >= most {
                Some(DEFERRED)
            } else {
                (snapshot.dead >= MAX_DEAD).then_some("there are too many dead letters: retry or drop some")
            };
            if snapshot.held != held {
                match held {
                    Some(why) => tracing::error!(sink = %self.standing.name(), why, "the sink reads no further"),
                    None => tracing::info!(sink = %self.standing.name(), "the sink reads on"),
                }
                snapshot.held = held;
            }
        });
        !self.paused && held.is_none() && self.window.has_room()
    }

    async fn read(&mut self) -> Result<(), Error> {
        // Before reading: what is stored meanwhile has not been looked at.
        let latest = self.feed.latest();
        let entries = self.feed.read(self.window.read_to()).await?;
        let read_to = entries.last().map_or(latest, |last| last.seq);
        let (filter, written) = (self.standing.filter(), &mut self.written);
        let wanted = entries.into_iter().filter(|entry| !written.remove(&entry.seq) && filter.matches(&entry.change));
        self.window.extend(wanted, read_to);
        Ok(())
    }

    /// Starts as many lanes as there may be.
    async fn start(&mut self) -> Result<(), Error> {
        if self.paused {
            return Ok(());
        }
        if let Some(away) = &self.away {
            if self.lanes.is_empty() && away.probe_at <= Instant::now() {
                self.start_probe().await?;
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
    async fn start_probe(&mut self) -> Result<(), Error> {
        for _ in 0..2 {
            if self.start_fresh(1) || self.start_retry(false).await? || self.start_replay().await? {
                return Ok(());
            }
            self.failing.clear();
        }
        Ok(())
    }

    /// Deferred changes have a quarter of the lanes, so that they don't hold up fresh ones; where there is but one they take turns.
    fn may_retry(&self) -> bool {
        let retries = self.under_way.values().filter(|lane| matches!(lane.origin, Origin::Retry(_))).count();
        retries < self.width.div_ceil(4)
    }

    /// A lane of at most `size` changes from the window; `false` when there are none to give.
    fn start_fresh(&mut self, size: usize) -> bool {
        let waiting = &self.waiting;
        // While it is away nothing is busy, and what has failed is no probe.
        let skipped = if self.away.is_some() { &self.failing } else { &self.busy };
        let taken = self.window.take(size, skipped, |key| waiting.holds(key), self.config.only_latest);
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
    async fn start_retry(&mut self, counts: bool) -> Result<bool, Error> {
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

    fn launch(&mut self, keys: Vec<Key>, changes: Vec<Delivery>, origin: Origin) {
        let changes: Arc<[Delivery]> = changes.into();
        self.busy.extend(&keys);
        let (sink, given) = (Arc::clone(&self.sink), Arc::clone(&changes));
        let task = self.lanes.spawn(async move { sink.deliver(&given).await });
        self.under_way.insert(task.id(), Lane { keys, changes, origin });
    }

    /// A lane has ended.
    fn joined(&mut self, joined: Result<(Id, Result<(), Failure>), tokio::task::JoinError>) {
        let (id, result) = match joined {
            Ok(joined) => joined,
            // The panic hook has said where.
            Err(error) => {
                let cause = "a fault in the sink".to_owned();
                (error.id(), Err(Failure { accepted: 0, kind: FailureKind::TryAgain { after: None }, cause }))
            }
        };
        let Some(Lane { keys, changes, origin }) = self.under_way.remove(&id) else { return };
        for key in &keys {
            self.busy.remove(key);
        }
        let accepted = match &result {
            Ok(()) => changes.len(),
            Err(failure) => failure.accepted.min(changes.len()),
        };
        for (key, change) in keys.iter().zip(changes.iter()).take(accepted) {
            self.close(*key, change, origin);
        }
        if accepted > 0 {
            self.delivered(accepted);
        }
        let failed = keys.get(accepted).copied().zip(changes.get(accepted));
        if let (Err(failure), Some((key, change))) = (result, failed) {
            // What comes after the failed one was not given.
            if matches!(origin, Origin::Fresh) {
                changes[accepted + 1..].iter().for_each(|change| self.window.put_back(change.clone()));
            }
            self.failed(key, change, origin, failure);
        }
        self.standing.update(|snapshot| snapshot.deferred = self.waiting.len());
    }

    /// This change is done with, by delivery or by a row of its own.
    fn close(&mut self, key: Key, change: &Delivery, origin: Origin) {
        match origin {
            Origin::Fresh => self.window.done(change.seq),
            Origin::Retry(_) => {
                self.outcomes.push(Outcome::Settled(change.seq));
                self.waiting.finish(key, None);
            }
            Origin::Replay => self.replayed(change.seq),
        }
    }

    fn delivered(&mut self, changes: usize) {
        self.alive();
        self.failing.clear();
        let full = self.config.concurrency(self.sink.as_ref());
        (self.width, self.burst) = ((self.width * 2).min(full), (self.burst * 2).min(self.sink.batch()));
        self.standing.update(|snapshot| {
            snapshot.delivered += changes as u64;
            snapshot.last_success = Some(Timestamp::now());
        });
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

    fn failed(&mut self, key: Key, change: &Delivery, origin: Origin, failure: Failure) {
        let Failure { kind, cause, .. } = failure;
        self.standing.update(|snapshot| {
            snapshot.failed += 1;
            snapshot.last_error = Some(cause.clone());
        });
        let after = match kind {
            FailureKind::Refused => {
                self.alive();
                let attempts = self.attempts(origin);
                self.die(key, change, origin, attempts, Reason::Refused, cause);
                return;
            }
            FailureKind::Gone => {
                self.set_aside(key, change, origin);
                // Others were under way when the first one was told.
                if !self.paused {
                    tracing::error!(sink = %self.standing.name(), cause, "the destination is gone for good: the sink is paused until it is resumed");
                    self.pause_because("gone");
                }
                return;
            }
            FailureKind::Away { after } => {
                self.set_aside(key, change, origin);
                self.go_away(after, &cause);
                return;
            }
            FailureKind::TryAgain { after } => after,
        };
        self.failing.insert(key);
        if self.failing.len() >= AWAY_AFTER || self.away.is_some() {
            self.set_aside(key, change, origin);
            self.go_away(after, &cause);
            return;
        }
        let attempts = self.attempts(origin);
        if attempts >= self.config.attempts {
            self.die(key, change, origin, attempts, Reason::Exhausted, cause);
            return;
        }
        let pause = backoff::pause(&self.config.backoff, attempts, after);
        let deferred = Deferred { seq: change.seq, attempts, due_at: self.clock.after(pause), in_flight: false };
        tracing::warn!(
            sink = %self.standing.name(),
            id = change.change.facts.event_id(),
            attempt = attempts,
            of = self.config.attempts,
            cause,
            next_in_ms = pause.as_millis(),
            "not delivered; it is tried again, the later ones of its message after it"
        );
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
    }

    fn defer(&mut self, key: Key, deferred: Deferred) {
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

    fn bury(&mut self, entry: Delivery, deferred: Deferred, reason: Reason, cause: String) {
        tracing::error!(
            sink = %self.standing.name(),
            id = entry.change.facts.event_id(),
            attempts = deferred.attempts,
            reason = reason.name(),
            cause,
            "not delivered, and not tried again: it is kept as a dead letter"
        );
        self.outcomes.push(Outcome::Settled(deferred.seq));
        let (entry, attempts) = (Box::new(entry), deferred.attempts);
        self.outcomes.push(Outcome::Dead { entry, attempts, reason, cause });
        self.standing.update(|snapshot| snapshot.dead += 1);
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
                self.away = Some(Away { since: now, probe_at: now + pause, failures: 1 });
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

    fn pause_because(&mut self, why: &str) {
        self.paused = true;
        self.outcomes.push(Outcome::Paused(why.to_owned()));
        self.standing.update(|snapshot| snapshot.paused = Some(why.to_owned()));
    }

    async fn obey(&mut self, Told { command, obeyed }: Told) -> Result<(), Error> {
        match command {
            Command::Pause => {
                self.pause_because("operator");
                tracing::info!(sink = %self.standing.name(), "the sink is paused until it is resumed");
            }
            Command::Resume => {
                self.feed.resume().await?;
                self.paused = false;
                if let Some(away) = &mut self.away {
                    away.probe_at = Instant::now();
                }
                self.standing.update(|snapshot| snapshot.paused = None);
                tracing::info!(sink = %self.standing.name(), "the sink is resumed");
            }
            Command::Reload => {
                let dead = self.feed.count_dead().await?;
                self.standing.update(|snapshot| snapshot.dead = dead);
                self.reload().await?;
            }
            Command::Replay(replay) => self.begin_replay(replay),
            Command::CancelReplay => self.end_replay("cancelled"),
        }
        self.settle().await?;
        // Whoever wanted it may have given up waiting.
        let _ = obeyed.send(());
        Ok(())
    }

    /// Writes what became of changes, and moves the sink's place past what is done with.
    async fn settle(&mut self) -> Result<(), Error> {
        let seq = self.window.settle();
        if self.outcomes.is_empty() {
            self.feed.done(seq);
            return Ok(());
        }
        self.feed.settle(self.outcomes.clone(), seq).await?;
        self.outcomes.clear();
        Ok(())
    }

    /// When there is something to do that nothing else tells of.
    fn next_wake(&self) -> Option<Instant> {
        if self.paused {
            return None;
        }
        match &self.away {
            Some(_) if !self.lanes.is_empty() => None,
            Some(away) if away.probe_at > Instant::now() => Some(away.probe_at),
            None if self.lanes.len() >= self.width => None,
            // A probe that nothing could be found for waits for something to be due.
            _ => {
                let due = self.waiting.next_due().filter(|_| self.may_retry()).map(|due| self.clock.instant(due));
                [due, self.next_replay()].into_iter().flatten().min()
            }
        }
    }
}

impl Lane {
    fn is_retry_of(&self, seq: i64) -> bool {
        matches!(self.origin, Origin::Retry(deferred) if deferred.seq == seq)
    }
}

#[cfg(test)]
mod tests;
