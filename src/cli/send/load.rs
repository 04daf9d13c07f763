//! Many callbacks on several connections.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lifecycle::Lifecycles;
use super::random::Random;
use super::tally::{Summary, Tally};
use super::target::{Outcome, Target};
use crate::network::NoAnswer;

/// The latency of each is held in memory.
pub(super) const MAX_COUNT: u64 = 10_000_000;

/// How long a connection rests after a callback that got no answer: the receiver may be starting again.
const REST: Duration = Duration::from_millis(100);

/// How many callbacks, and how fast.
pub(super) struct Load {
    pub(super) count: u64,
    /// In a second; `None`: as fast as answers come.
    pub(super) rate: Option<f64>,
    pub(super) connections: u16,
}

impl Load {
    /// Posts them all, or until an interrupt. It is an error when not even the first gets an answer.
    pub(super) async fn run(&self, target: Target) -> anyhow::Result<Summary> {
        let bar = ProgressBar::with_draw_target(Some(self.count), ProgressDrawTarget::stderr());
        bar.set_style(
            ProgressStyle::with_template("{bar:40} {pos} of {len}, {per_second} a second, {eta} left")
                .expect("a constant template")
                .with_key("per_second", |state: &ProgressState, to: &mut dyn fmt::Write| {
                    // What can't be drawn is not drawn.
                    let _ = write!(to, "{:.0}", state.per_sec());
                }),
        );
        let shared = Arc::new(Shared {
            target,
            queue: Mutex::new(Queue { lifecycles: Lifecycles::new(Random::seeded()?), taken: 0, count: self.count }),
            interval: self.rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
            started: Instant::now(),
            has_answered: AtomicBool::new(false),
            stop: CancellationToken::new(),
            bar,
        });
        let mut connections = JoinSet::new();
        for _ in 0..self.connections {
            connections.spawn(Arc::clone(&shared).post_in_turn());
        }
        let result = collect(&mut connections, &shared.stop).await;
        shared.bar.finish_and_clear();
        let tally = result.map_err(|why| shared.target.no_answer(&why))?;
        Ok(tally.finish(self.connections, shared.started.elapsed()))
    }
}

/// What the connections counted. At an interrupt they finish what is under way.
async fn collect(
    connections: &mut JoinSet<Result<Tally, NoAnswer>>,
    stop: &CancellationToken,
) -> Result<Tally, NoAnswer> {
    let mut all = Tally::default();
    let mut failure = None;
    loop {
        let joined = tokio::select! {
            joined = connections.join_next() => joined,
            _ = tokio::signal::ctrl_c(), if !stop.is_cancelled() => {
                stop.cancel();
                continue;
            }
        };
        match joined {
            Some(Ok(Ok(tally))) => all.merge(tally),
            Some(Ok(Err(why))) => failure = Some(why),
            // None is ever aborted: it panicked.
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => return failure.map_or(Ok(all), Err),
        }
    }
}

/// What the connections have in common.
struct Shared {
    target: Target,
    queue: Mutex<Queue>,
    interval: Option<Duration>,
    started: Instant,
    has_answered: AtomicBool,
    stop: CancellationToken,
    bar: ProgressBar,
}

struct Queue {
    lifecycles: Lifecycles,
    taken: u64,
    count: u64,
}

impl Queue {
    /// The next body and its number.
    fn take(&mut self) -> Option<(Vec<u8>, u64)> {
        if self.taken == self.count {
            return None;
        }
        let number = self.taken;
        self.taken += 1;
        Some((self.lifecycles.next(Timestamp::now().as_millisecond()).to_json().into_bytes(), number))
    }
}

impl Shared {
    async fn post_in_turn(self: Arc<Self>) -> Result<Tally, NoAnswer> {
        let mut tally = Tally::default();
        while !self.stop.is_cancelled() {
            let next = self.queue.lock().expect("nothing panics while it is held").take();
            let Some((body, number)) = next else { break };
            if let Some(interval) = self.interval {
                let due = self.started + interval.mul_f64(number as f64);
                if self.stop.run_until_cancelled(tokio::time::sleep_until(due)).await.is_none() {
                    break;
                }
            }
            let sent = Instant::now();
            match self.target.post(body).await {
                Ok(outcome) => {
                    self.has_answered.store(true, Ordering::Relaxed);
                    tally.add(&outcome, sent.elapsed());
                }
                Err(why) if !self.has_answered.load(Ordering::Relaxed) => {
                    self.stop.cancel();
                    return Err(why);
                }
                Err(why) => {
                    tally.add(&Outcome::unanswered(&why), sent.elapsed());
                    // Cancelled or not, the loop goes on to see it.
                    let _ = self.stop.run_until_cancelled(tokio::time::sleep(REST)).await;
                }
            }
            self.bar.inc(1);
        }
        Ok(tally)
    }
}
