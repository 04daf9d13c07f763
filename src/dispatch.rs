//! From the store to the sinks: one drain for each sink follows the log from the sink's own place.
//!
//! A drain shares nothing with another and nothing with reception: they meet in the store. For now a failure of any kind
//! holds the whole sink up: what was not accepted is tried again, in order, with growing pauses, for as long as it takes.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::sink::{Backoff, Delivery, Failure, FailureKind, Filter, Name, Sink};
use crate::store::Feed;

/// A drain that has not come round for this long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// What can be known of a sink from outside its drain.
#[derive(Debug)]
pub struct Standing {
    name: Name,
    filter: Filter,
    started: Instant,
    last_turn_ms: AtomicI64,
    failing: Mutex<Option<Trouble>>,
}

/// Why a sink gets nothing now.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// When it began.
    pub since: Timestamp,
    /// What the last attempt came to.
    pub cause: String,
}

impl Standing {
    /// For a sink of this name with this filter.
    pub fn new(name: Name, filter: Filter) -> Self {
        Self { name, filter, started: Instant::now(), last_turn_ms: AtomicI64::new(0), failing: Mutex::new(None) }
    }

    /// The sink's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Which changes it is given.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Whether its drain comes round. One that waits for a destination does; one whose task has died doesn't.
    pub fn is_moving(&self) -> bool {
        self.now_ms() - self.last_turn_ms.load(Ordering::Relaxed)
            < i64::try_from(STUCK_AFTER.as_millis()).unwrap_or(i64::MAX)
    }

    /// Why it gets nothing now, if so.
    pub fn trouble(&self) -> Option<Trouble> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn turn(&self) {
        self.last_turn_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Logs when trouble begins, and keeps the latest cause.
    fn failed(&self, failure: &Failure, changes: usize) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *failing {
            Some(trouble) => trouble.cause.clone_from(&failure.cause),
            none => {
                tracing::warn!(sink = %self.name, changes, cause = failure.cause, "cannot deliver; it is tried again until it works");
                *none = Some(Trouble { since: Timestamp::now(), cause: failure.cause.clone() });
            }
        }
    }

    fn succeeded(&self) {
        if let Some(trouble) = self.failing.lock().unwrap_or_else(PoisonError::into_inner).take() {
            tracing::info!(sink = %self.name, failing_since = %trouble.since, "delivers again");
        }
    }
}

/// One sink and its place in the log.
pub struct Drain {
    /// The destination.
    pub sink: Box<dyn Sink>,
    /// The log from the sink's place on.
    pub feed: Feed,
    /// The pauses when the destination fails.
    pub backoff: Backoff,
    /// What others see of it.
    pub standing: Arc<Standing>,
}

impl Drain {
    /// Follows the log until `stop`, and then to the end of the batch in hand.
    pub async fn run(mut self, stop: CancellationToken) {
        let standing = Arc::clone(&self.standing);
        let mut turns = tokio::time::interval(STUCK_AFTER / 10);
        let mut following = std::pin::pin!(self.follow(&stop));
        // In the same task: when the drain blocks or dies, so does its pulse.
        loop {
            tokio::select! {
                () = &mut following => return,
                _ = turns.tick() => standing.turn(),
            }
        }
    }

    async fn follow(&mut self, stop: &CancellationToken) {
        let mut pause = Pause::new(&self.backoff);
        loop {
            let batch = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                batch = self.feed.next() => batch,
            };
            let batch = match batch {
                Ok(batch) => batch,
                Err(crate::store::Error::Stopped) => return,
                // The store has logged the cause.
                Err(_) => {
                    if !pause.wait(None, stop).await {
                        return;
                    }
                    continue;
                }
            };
            let Some(last) = batch.last().map(|entry| entry.seq) else { continue };
            let wanted: Vec<Delivery> =
                batch.into_iter().filter(|entry| self.standing.filter.matches(&entry.change)).collect();
            if !self.hand_over(&wanted, &mut pause, stop).await {
                return;
            }
            self.feed.done(last);
        }
    }

    /// Delivers all of them, however often it takes; `false` when stopped before that.
    async fn hand_over(&mut self, mut changes: &[Delivery], pause: &mut Pause, stop: &CancellationToken) -> bool {
        while !changes.is_empty() {
            let failure = match self.sink.deliver(changes).await {
                Ok(()) => break,
                Err(failure) => failure,
            };
            let (accepted, rest) = changes.split_at(failure.accepted.min(changes.len()));
            if let Some(last) = accepted.last() {
                self.feed.done(last.seq);
                pause.reset();
            }
            changes = rest;
            self.standing.failed(&failure, changes.len());
            let after = match failure.kind {
                FailureKind::Refused => None,
                FailureKind::TryAgain { after } | FailureKind::Away { after } => after,
            };
            if !pause.wait(after, stop).await {
                return false;
            }
        }
        pause.reset();
        self.standing.succeeded();
        true
    }
}

/// Growing pauses with full jitter, so that many that failed together don't come back together.
struct Pause {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Pause {
    fn new(backoff: &Backoff) -> Self {
        Self { min: backoff.min, max: backoff.max, next: backoff.min }
    }

    fn reset(&mut self) {
        self.next = self.min;
    }

    /// Pauses; `false` when stopped meanwhile. What the destination asks for is obeyed up to the longest pause.
    async fn wait(&mut self, asked: Option<Duration>, stop: &CancellationToken) -> bool {
        let random = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
        let pause = self.next.mul_f64(random).max(asked.unwrap_or_default()).min(self.max);
        self.next = (self.next * 2).min(self.max);
        tokio::select! {
            () = stop.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }
}
