//! A scripted destination.

use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::sink::FailureKind;

/// What the scripted destination does with a change, by its message id and the attempt (from 1) at it.
type Script = Box<dyn Fn(&str, u32) -> Answer + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    Accept,
    /// It is accepted after a while.
    Slow(Duration),
    /// It is accepted once the destination is told to let go.
    Hold,
    /// It is refused then.
    HoldAndRefuse,
    Refuse,
    TryAgain,
    TryAgainAfter(Duration),
    Away,
    AwayAfter(Duration),
    Gone,
    Panic,
    Hang,
}

/// A destination that does what it is told and writes down what it was given.
pub(super) struct Destination {
    script: Mutex<Script>,
    pub(super) seen: Mutex<Seen>,
    batch: usize,
    /// Whether it gives nothing of a batch after one that failed.
    gives_up: bool,
    let_go: CancellationToken,
}

#[derive(Default)]
pub(super) struct Seen {
    attempts: BTreeMap<i64, u32>,
    pub(super) calls: Vec<Call>,
    pub(super) accepted: Vec<(String, i64)>,
    pub(super) at_once: usize,
    pub(super) most_at_once: usize,
    /// How many changes each call of the sink had.
    pub(super) lanes: Vec<usize>,
}

/// A change as it was given.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) seq: i64,
    pub(super) message_id: String,
    pub(super) attempt: u32,
    pub(super) at: Instant,
    /// How many calls of the sink were under way, this one included.
    pub(super) at_once: usize,
    /// How many changes had been accepted before.
    pub(super) accepted: usize,
    pub(super) event: String,
}

impl Destination {
    pub(super) fn new(batch: usize, script: impl Fn(&str, u32) -> Answer + Send + Sync + 'static) -> Arc<Self> {
        Self::with(batch, true, script)
    }

    /// One that gives the rest of a batch, too, after one of it that failed, unless `gives_up`.
    pub(super) fn with(
        batch: usize,
        gives_up: bool,
        script: impl Fn(&str, u32) -> Answer + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (seen, let_go) = (Mutex::default(), CancellationToken::new());
        Arc::new(Self { script: Mutex::new(Box::new(script)), seen, batch, gives_up, let_go })
    }

    pub(super) fn now(&self, script: impl Fn(&str, u32) -> Answer + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// Accepts all that it held, and will hold.
    pub(super) fn let_go(&self) {
        self.let_go.cancel();
    }

    pub(super) fn accepted(&self) -> Vec<i64> {
        self.seen.lock().unwrap().accepted.iter().map(|(_, seq)| *seq).collect()
    }

    pub(super) fn calls(&self) -> Vec<i64> {
        self.calls_in_full().into_iter().map(|call| call.seq).collect()
    }

    pub(super) fn calls_in_full(&self) -> Vec<Call> {
        self.seen.lock().unwrap().calls.clone()
    }
}

/// A call of the sink that is under way: over when it is dropped, as at a crash, too.
struct UnderWay<'a>(&'a Mutex<Seen>);

impl<'a> UnderWay<'a> {
    fn begin(seen: &'a Mutex<Seen>) -> Self {
        let mut now = seen.lock().unwrap();
        now.at_once += 1;
        now.most_at_once = now.most_at_once.max(now.at_once);
        Self(seen)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().at_once -= 1;
    }
}

#[async_trait]
impl Sink for Arc<Destination> {
    async fn deliver(&self, changes: &[Delivery]) -> Vec<Result<(), Failure>> {
        let _under_way = UnderWay::begin(&self.seen);
        self.seen.lock().unwrap().lanes.push(changes.len());
        let mut outcomes = Vec::new();
        for change in changes {
            tokio::task::yield_now().await;
            let message_id = change.change.facts.message_id.clone();
            let attempt = self.note(change);
            let answer = (self.script.lock().unwrap())(&message_id, attempt);
            let kind = match answer {
                Answer::Accept => None,
                Answer::Slow(pause) => {
                    tokio::time::sleep(pause).await;
                    None
                }
                Answer::Hold => {
                    self.let_go.cancelled().await;
                    None
                }
                Answer::HoldAndRefuse => {
                    self.let_go.cancelled().await;
                    Some(FailureKind::Refused)
                }
                Answer::Refuse => Some(FailureKind::Refused),
                Answer::TryAgain => Some(FailureKind::TryAgain { after: None }),
                Answer::TryAgainAfter(after) => Some(FailureKind::TryAgain { after: Some(after) }),
                Answer::Away => Some(FailureKind::Away { after: None }),
                Answer::AwayAfter(after) => Some(FailureKind::Away { after: Some(after) }),
                Answer::Gone => Some(FailureKind::Gone),
                Answer::Panic => panic!("as scripted"),
                Answer::Hang => std::future::pending().await,
            };
            if let Some(kind) = kind {
                outcomes.push(Err(Failure { kind, cause: "as scripted".into() }));
                // Some tell all that became of a batch, others only as far as they came.
                if self.gives_up {
                    break;
                }
                continue;
            }
            self.seen.lock().unwrap().accepted.push((message_id, change.seq));
            outcomes.push(Ok(()));
        }
        outcomes
    }

    fn batch(&self) -> usize {
        self.batch
    }
}

impl Destination {
    /// Writes down that a change was given; the attempt that this is.
    fn note(&self, change: &Delivery) -> u32 {
        let mut seen = self.seen.lock().unwrap();
        let attempts = seen.attempts.entry(change.seq).or_default();
        *attempts += 1;
        let attempt = *attempts;
        let call = Call {
            seq: change.seq,
            message_id: change.change.facts.message_id.clone(),
            attempt,
            at: Instant::now(),
            at_once: seen.at_once,
            accepted: seen.accepted.len(),
            event: serde_json::to_string(&change.change).unwrap(),
        };
        seen.calls.push(call);
        attempt
    }
}
