//! A sink as others see it: where it stands, and what it can be told.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::sink::{FailureKind, Filter, Name};
use crate::store::Replay;
use crate::throttle::Throttle;

/// A drain that has not come round for this long is stuck.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(10);

/// The most lines about single changes that failed, or that died, in one [`WINDOW`]. A destination that refuses everything would
/// otherwise write a line for each.
const MAX_LINES: u64 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// Something that an operator wants of a sink.
#[derive(Clone, Debug)]
pub enum Command {
    /// Give it nothing until it is resumed, over a restart, too.
    Pause,
    /// Give it its changes again, at once.
    Resume,
    /// Look at the deferred changes anew: dead letters have been made due.
    Reload,
    /// Give it none of the changes with these sequence numbers, ascending: they were taken out of the store.
    Forget(Arc<[i64]>),
    /// Give it stored changes again.
    Replay(Replay),
    /// End the replay.
    CancelReplay,
}

/// A command on its way to a drain, which says when it has obeyed.
#[derive(Debug)]
pub struct Told {
    pub(super) command: Command,
    pub(super) obeyed: oneshot::Sender<()>,
}

/// A replay that is over.
#[derive(Clone, Debug, Serialize)]
pub struct Ended {
    /// How: `done`, `cancelled`.
    pub how: &'static str,
    /// How many changes were given.
    pub delivered: u64,
    /// When.
    #[serde(serialize_with = "to_the_millisecond")]
    pub at: Timestamp,
}

fn to_the_millisecond<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&crate::status::with_milliseconds(*at))
}

/// Attempts that failed, by what that meant.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Failures {
    /// The change will never be accepted.
    pub refused: u64,
    /// The change alone failed.
    pub failed: u64,
    /// The destination took nothing.
    pub away: u64,
    /// The destination is gone for good.
    pub gone: u64,
}

impl Failures {
    pub(super) fn count(&mut self, kind: FailureKind) {
        *match kind {
            FailureKind::Refused => &mut self.refused,
            FailureKind::TryAgain { .. } => &mut self.failed,
            FailureKind::Away { .. } => &mut self.away,
            FailureKind::Gone => &mut self.gone,
        } += 1;
    }
}

/// What is known of a sink.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Snapshot {
    /// Why the sink is paused, if it is: `operator`, `gone`.
    pub paused: Option<String>,
    /// Since when the destination as a whole takes nothing, if so.
    pub away_since: Option<Timestamp>,
    /// Why it reads no further, if it doesn't: too many changes are deferred, or dead.
    pub held: Option<&'static str>,
    /// Whether the store can't be read or written for it; the log has the cause.
    pub store_fails: bool,
    /// Changes delivered since the start.
    pub delivered: u64,
    /// Attempts since the start that failed.
    pub failed: u64,
    /// The same by what they meant.
    pub failures: Failures,
    /// Changes that will be given again.
    pub deferred: usize,
    /// Dead letters.
    pub dead: i64,
    /// When a change was last delivered, since the start.
    pub last_success: Option<Timestamp>,
    /// What the last failed attempt came to, since the start.
    pub last_error: Option<String>,
    /// The replay that is going on.
    pub replay: Option<Replay>,
    /// How the last replay ended, since the start; none while one is going on.
    pub last_replay: Option<Ended>,
}

impl Snapshot {
    /// What [`state`](Self::state) may say.
    pub const STATES: [&str; 5] = ["delivering", "failing", "paused", "away", "held"];

    /// The state in one word.
    pub fn state(&self) -> &'static str {
        match self {
            Self { store_fails: true, .. } => "failing",
            Self { paused: Some(_), .. } => "paused",
            Self { away_since: Some(_), .. } => "away",
            Self { held: Some(_), .. } => "held",
            _ => "delivering",
        }
    }
}

/// What can be known of a sink from outside its drain, and the way to tell it something.
#[derive(Debug)]
pub struct Standing {
    name: Name,
    filter: Filter,
    started: Instant,
    last_turn_ms: AtomicI64,
    snapshot: Mutex<Snapshot>,
    /// Lines about changes that are tried again, and about dead letters.
    pub(super) retry_lines: Throttle,
    pub(super) dead_lines: Throttle,
    commands: mpsc::Sender<Told>,
}

impl Standing {
    /// For a sink of this name with this filter; its drain hears commands on the receiver.
    pub fn new(name: Name, filter: Filter) -> (Self, mpsc::Receiver<Told>) {
        let (commands, heard) = mpsc::channel(16);
        let standing = Self {
            name,
            filter,
            started: Instant::now(),
            last_turn_ms: AtomicI64::new(0),
            snapshot: Mutex::default(),
            retry_lines: Throttle::new(MAX_LINES, WINDOW),
            dead_lines: Throttle::new(MAX_LINES, WINDOW),
            commands,
        };
        (standing, heard)
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
        let since = self.now_ms() - self.last_turn_ms.load(Ordering::Relaxed);
        since < i64::try_from(STUCK_AFTER.as_millis()).unwrap_or(i64::MAX)
    }

    /// Where it stands.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells the drain, and returns when it has obeyed and what there is to remember of it is on disk; `false` when the drain has
    /// ended or the store does not write.
    pub async fn tell(&self, command: Command) -> bool {
        let (obeyed, done) = oneshot::channel();
        self.commands.send(Told { command, obeyed }).await.is_ok() && done.await.is_ok()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.snapshot.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Notes how many dead letters there are; says so when they are the first, and when there are none any more.
    pub(super) fn count_dead(&self, count: impl FnOnce(i64) -> i64) {
        let (mut before, mut dead) = (0, 0);
        self.update(|snapshot| {
            before = snapshot.dead;
            dead = count(before);
            snapshot.dead = dead;
        });
        if before == 0 && dead > 0 {
            tracing::error!(sink = %self.name, dead, "the sink has dead letters: they are kept until somebody retries or drops them");
        }
        if before > 0 && dead == 0 {
            tracing::info!(sink = %self.name, "the sink has no dead letters any more");
        }
    }

    /// The drain comes round, about every second.
    pub(super) fn turn(&self) {
        self.last_turn_ms.store(self.now_ms(), Ordering::Relaxed);
        let (retries, letters) = (self.retry_lines.left_out(), self.dead_lines.left_out());
        if retries > 0 {
            tracing::warn!(sink = %self.name, unlogged = retries, "more attempts failed than are logged; they are made again");
        }
        if letters > 0 {
            let dead = self.snapshot().dead;
            tracing::error!(sink = %self.name, unlogged = letters, dead, "more changes became dead letters than are logged");
        }
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}
