//! A sink as others see it: where it stands, and what it can be told.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::sink::{Filter, Name};
use crate::store::Replay;

/// A drain that has not come round for this long is stuck.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(10);

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

    pub(super) fn turn(&self) {
        self.last_turn_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}
