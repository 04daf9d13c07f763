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

pub(crate) mod backoff;
mod erasure;
mod lanes;
mod outcomes;
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

use crate::sink::{Delivery, DeliveryConfig, Failure, Sink};
use crate::store::{Deferred, Error, Feed, Outcome, Reason, Replay};
pub use standing::{Command, Ended, Failures, Snapshot, Standing, Told};
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
    lanes: JoinSet<Vec<Result<(), Failure>>>,
    under_way: HashMap<Id, Lane>,
    /// Changes under way that are no longer in the store: somebody was erased.
    erased: HashSet<i64>,
    /// What has to be written before the sink's place may move.
    outcomes: Vec<Outcome>,

    paused: bool,
    away: Option<Away>,
    /// The messages that failed since something was delivered.
    failing: HashSet<Key>,
    /// The messages of which a change, still to be given, has sent the destination away.
    blamed: HashSet<Key>,
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
    /// Whether the destination was away when it was started: its success says that it is back, others' only that it was there.
    probe: bool,
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
    /// A probe was due, and there was nothing to give.
    is_idle: bool,
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
            erased: HashSet::new(),
            outcomes: Vec::new(),
            paused: false,
            away: None,
            failing: HashSet::new(),
            blamed: HashSet::new(),
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
        self.standing.update(|snapshot| snapshot.paused = paused);
        self.standing.count_dead(|_| dead);
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
                // No pause is longer, whatever clock or configuration the time was made with.
                let latest = self.clock.after(self.config.backoff.max);
                let due_at = if deferred.in_flight { self.clock.now() } else { deferred.due_at.min(latest) };
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
                self.standing.count_dead(|_| dead);
                self.reload().await?;
            }
            Command::Forget(seqs) => self.forget(&seqs),
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
        // A replay may refuse again what was a dead letter already, and still is one.
        let is_replayed = self.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Replay(_)));
        let has_died = self.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Dead { .. }));
        self.outcomes.clear();
        if is_replayed && has_died {
            let dead = self.feed.count_dead().await?;
            self.standing.count_dead(|_| dead);
        }
        Ok(())
    }

    /// When there is something to do that nothing else tells of.
    fn next_wake(&self) -> Option<Instant> {
        if self.paused {
            return None;
        }
        match &self.away {
            Some(_) if !self.lanes.is_empty() => None,
            // Also when that is over by now: it may not have been when lanes were started.
            Some(away) if !away.is_idle => Some(away.probe_at),
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
