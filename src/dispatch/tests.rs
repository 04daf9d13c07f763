use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::callback;
use crate::sink::{Backoff, Filter};
use crate::store::{DeadQuery, Query, Sqlite, Start, Store};

/// What the scripted destination does with a change, by its message id and the attempt (from 1) at it.
type Script = Box<dyn Fn(&str, u32) -> Answer + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Accept,
    Refuse,
    TryAgain,
    Away,
    Gone,
    Panic,
    Hang,
}

/// A destination that does what it is told and writes down what it was given.
struct Destination {
    script: Mutex<Script>,
    seen: Mutex<Seen>,
    batch: usize,
}

#[derive(Default)]
struct Seen {
    attempts: BTreeMap<i64, u32>,
    calls: Vec<i64>,
    accepted: Vec<(String, i64)>,
    at_once: usize,
    most_at_once: usize,
}

impl Destination {
    fn new(batch: usize, script: impl Fn(&str, u32) -> Answer + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { script: Mutex::new(Box::new(script)), seen: Mutex::default(), batch })
    }

    fn now(&self, script: impl Fn(&str, u32) -> Answer + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    fn accepted(&self) -> Vec<i64> {
        self.seen.lock().unwrap().accepted.iter().map(|(_, seq)| *seq).collect()
    }

    fn calls(&self) -> Vec<i64> {
        self.seen.lock().unwrap().calls.clone()
    }
}

#[async_trait]
impl Sink for Arc<Destination> {
    async fn deliver(&self, changes: &[Delivery]) -> Result<(), Failure> {
        {
            let mut seen = self.seen.lock().unwrap();
            seen.at_once += 1;
            seen.most_at_once = seen.most_at_once.max(seen.at_once);
        }
        let mut result = Ok(());
        for (accepted, change) in changes.iter().enumerate() {
            tokio::task::yield_now().await;
            let message_id = change.change.facts.message_id.clone();
            let attempt = {
                let mut seen = self.seen.lock().unwrap();
                seen.calls.push(change.seq);
                *seen.attempts.entry(change.seq).and_modify(|attempts| *attempts += 1).or_insert(1)
            };
            let answer = (self.script.lock().unwrap())(&message_id, attempt);
            let kind = match answer {
                Answer::Accept => {
                    self.seen.lock().unwrap().accepted.push((message_id, change.seq));
                    continue;
                }
                Answer::Refuse => FailureKind::Refused,
                Answer::TryAgain => FailureKind::TryAgain { after: None },
                Answer::Away => FailureKind::Away { after: None },
                Answer::Gone => FailureKind::Gone,
                Answer::Panic => panic!("as scripted"),
                Answer::Hang => std::future::pending().await,
            };
            result = Err(Failure { accepted, kind, cause: "as scripted".into() });
            break;
        }
        self.seen.lock().unwrap().at_once -= 1;
        result
    }

    fn batch(&self) -> usize {
        self.batch
    }
}

/// A store with one sink that is drained.
struct Bench {
    store: Store,
    standing: Arc<Standing>,
    stop: CancellationToken,
    drain: JoinHandle<()>,
}

/// Pauses that are over at once on a paused clock, and quickly on a real one.
fn quick() -> DeliveryConfig {
    DeliveryConfig {
        start: Start::Beginning,
        concurrency: Some(4),
        attempts: 5,
        backoff: Backoff { min: Duration::from_millis(1), max: Duration::from_millis(8) },
        only_latest: false,
    }
}

impl Bench {
    fn start(folder: &Path, destination: &Arc<Destination>, config: DeliveryConfig) -> Self {
        let sqlite = Sqlite { path: folder.to_owned(), ..Sqlite::default() };
        let sinks = [("sink".to_owned(), config.start)];
        // A read that the last one had under way when it crashed may hold the store for another moment.
        let store = loop {
            match Store::open(&sqlite, &sinks, 100) {
                Err(crate::store::OpenError::InUse { .. }) => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        let (standing, commands) = Standing::new("sink".parse().unwrap(), Filter::default());
        let standing = Arc::new(standing);
        let feed = store.feed("sink").unwrap();
        let stop = CancellationToken::new();
        let drain = Drain::new(Box::new(Arc::clone(destination)), feed, config, Arc::clone(&standing), commands);
        Self { store, standing, drain: tokio::spawn(drain.run(stop.clone())), stop }
    }

    /// Stores a change; its sequence number.
    async fn accept(&self, message_id: &str, status: &str) -> i64 {
        let body = json!({ "type": callback::TYPE, "status": status, "ids": [message_id], "phone": "5544999999999" });
        let callback = callback::parse(body.to_string().as_bytes()).unwrap();
        self.store.accept(callback, Timestamp::now(), self.store.admit().unwrap()).await.unwrap();
        self.store.latest()
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Snapshot) -> bool) {
        let waiting = async {
            while !is_so(&self.standing.snapshot()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        assert!(waited.is_ok(), "never: {what}; {:?}", self.standing.snapshot());
    }

    /// Nothing is left to give: the place is at the end of the log and nothing is deferred.
    async fn drained(&self) {
        let waiting = async {
            while self.store.places()["sink"] < self.store.latest() || self.deferred().await > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        assert!(waited.is_ok(), "not drained: {:?} {:?}", self.standing.snapshot(), self.store.places());
    }

    async fn deferred(&self) -> usize {
        self.store.feed("sink").unwrap().deferred(0).await.unwrap().len()
    }

    async fn dead(&self) -> Vec<(i64, String)> {
        let dead = self.store.dead("sink", DeadQuery::default(), 0, 10_000).await.unwrap();
        dead.into_iter().map(|dead| (dead.seq, dead.reason)).collect()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.drain.await.unwrap();
        self.store.close().await;
    }

    /// Ends it as a crash would: what is under way is never heard of.
    async fn crash(self) {
        self.drain.abort();
        let _ = self.drain.await;
        self.store.close().await;
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn a_failed_change_holds_up_its_message_and_nothing_else() {
    let folder = folder();
    let destination =
        Destination::new(1, |id, attempt| if id == "bad" && attempt < 3 { Answer::TryAgain } else { Answer::Accept });
    let bench = Bench::start(folder.path(), &destination, quick());
    let mut bad = Vec::new();
    for status in ["SENT", "RECEIVED", "READ"] {
        bad.push(bench.accept("bad", status).await);
        for id in ["a", "b", "c"] {
            bench.accept(id, status).await;
        }
    }
    bench.drained().await;
    let accepted = destination.accepted();
    assert_eq!(accepted.len(), 12, "nothing twice without a failure: {accepted:?}");
    assert_eq!(accepted.iter().copied().filter(|seq| bad.contains(seq)).collect::<Vec<_>>(), bad);
    assert_eq!(bench.dead().await, []);
    bench.stop().await;
}

#[tokio::test]
async fn a_refused_change_is_a_dead_letter_and_the_next_of_its_message_goes_out() {
    let folder = folder();
    let destination =
        Destination::new(100, |id, attempt| if id == "bad" && attempt == 1 { Answer::Refuse } else { Answer::Accept });
    let bench = Bench::start(folder.path(), &destination, DeliveryConfig { concurrency: Some(1), ..quick() });
    destination.now(|id, _| if id == "bad" { Answer::Refuse } else { Answer::Accept });
    let bad = bench.accept("bad", "SENT").await;
    let good = bench.accept("good", "SENT").await;
    bench.drained().await;
    assert_eq!(bench.dead().await, [(bad, "refused".to_owned())]);
    assert_eq!(destination.accepted(), [good]);

    destination.now(|_, _| Answer::Accept);
    assert_eq!(bench.store.revive_dead("sink", DeadQuery::default(), 10).await.unwrap(), 1);
    bench.standing.tell(Command::Reload).await;
    bench.until("the dead letter is delivered", |snapshot| snapshot.delivered == 2).await;
    bench.drained().await;
    assert_eq!(destination.accepted(), [good, bad]);
    assert_eq!(bench.standing.snapshot().dead, 0);
    bench.stop().await;
}

#[tokio::test]
async fn what_fails_every_time_is_a_dead_letter_after_its_attempts() {
    let folder = folder();
    let destination = Destination::new(1, |id, _| if id == "bad" { Answer::TryAgain } else { Answer::Accept });
    let bench = Bench::start(folder.path(), &destination, quick());
    let bad = bench.accept("bad", "SENT").await;
    bench.until("it is dead", |snapshot| snapshot.dead == 1).await;
    bench.drained().await;
    assert_eq!(bench.dead().await, [(bad, "exhausted".to_owned())]);
    assert_eq!(destination.calls(), vec![bad; 5]);
    bench.stop().await;
}

#[tokio::test]
async fn a_destination_that_is_away_gets_single_probes_and_nothing_is_written() {
    let folder = folder();
    let destination = Destination::new(1, |_, _| Answer::Away);
    let bench = Bench::start(folder.path(), &destination, quick());
    for number in 0..50 {
        bench.accept(&format!("m{number}"), "SENT").await;
    }
    bench.until("it has failed a few times", |snapshot| snapshot.failed > 10).await;
    assert_eq!(bench.standing.snapshot().state(), "away");
    assert_eq!((bench.deferred().await, bench.dead().await, bench.store.places()["sink"]), (0, vec![], 0));
    destination.seen.lock().unwrap().most_at_once = 0;
    let failed = bench.standing.snapshot().failed;
    bench.until("it is probed again", |snapshot| snapshot.failed > failed + 3).await;
    assert_eq!(destination.seen.lock().unwrap().most_at_once, 1);

    destination.now(|_, _| Answer::Accept);
    bench.drained().await;
    assert_eq!(destination.accepted().len(), 50);
    assert_eq!(bench.standing.snapshot().state(), "delivering");
    bench.stop().await;
}

#[tokio::test]
async fn several_different_changes_that_fail_in_a_row_are_a_destination_that_is_away() {
    let folder = folder();
    let destination = Destination::new(1, |_, _| Answer::TryAgain);
    let bench = Bench::start(folder.path(), &destination, quick());
    for number in 0..50 {
        bench.accept(&format!("m{number}"), "SENT").await;
    }
    bench.until("it is away", |snapshot| snapshot.away_since.is_some()).await;
    bench.until("it is probed more often than a change has attempts", |snapshot| snapshot.failed > 30).await;
    assert!(bench.deferred().await < AWAY_AFTER);
    assert_eq!(bench.dead().await, [], "an outage costs no change its attempts");
    destination.now(|_, _| Answer::Accept);
    bench.drained().await;
    assert_eq!(destination.accepted().len(), 50);
    bench.stop().await;
}

#[tokio::test]
async fn a_destination_that_is_gone_pauses_the_sink_until_it_is_resumed_also_over_a_restart() {
    let folder = folder();
    let destination = Destination::new(1, |_, _| Answer::Gone);
    let bench = Bench::start(folder.path(), &destination, quick());
    let seq = bench.accept("m", "SENT").await;
    bench.until("it is paused", |snapshot| snapshot.paused.as_deref() == Some("gone")).await;
    bench.stop().await;

    destination.now(|_, _| Answer::Accept);
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.until("it is still paused", |snapshot| snapshot.paused.as_deref() == Some("gone")).await;
    assert!(destination.accepted().is_empty());
    bench.standing.tell(Command::Resume).await;
    bench.drained().await;
    assert_eq!(destination.accepted(), [seq]);
    bench.standing.tell(Command::Pause).await;
    bench.until("it is paused", |snapshot| snapshot.paused.as_deref() == Some("operator")).await;
    bench.accept("other", "SENT").await;
    bench.stop().await;
    assert_eq!(destination.accepted(), [seq]);
}

#[tokio::test]
async fn an_attempt_at_a_deferred_change_counts_even_when_the_process_ends_in_it() {
    let folder = folder();
    let destination = Destination::new(1, |_, attempt| if attempt == 1 { Answer::TryAgain } else { Answer::Hang });
    let config = DeliveryConfig { attempts: 3, ..quick() };
    for attempt in [2, 3] {
        let bench = Bench::start(folder.path(), &destination, config.clone());
        if attempt == 2 {
            bench.accept("poison", "SENT").await;
        }
        while destination.calls().len() < attempt {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bench.crash().await;
    }
    let bench = Bench::start(folder.path(), &destination, config);
    bench.until("it is dead", |snapshot| snapshot.dead == 1).await;
    bench.drained().await;
    assert_eq!(bench.dead().await, [(1, "undeliverable".to_owned())]);
    assert_eq!(destination.calls().len(), 3);
    bench.stop().await;
}

#[tokio::test]
async fn a_fault_in_a_sink_is_a_failed_attempt_and_not_the_end() {
    let folder = folder();
    let destination = Destination::new(1, |_, attempt| if attempt == 1 { Answer::Panic } else { Answer::Accept });
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.accept("m", "SENT").await;
    bench.drained().await;
    assert_eq!(destination.accepted(), [1]);
    bench.stop().await;
}

#[tokio::test]
async fn one_change_that_hangs_holds_up_no_other_message() {
    let folder = folder();
    let destination = Destination::new(1, |id, _| if id == "slow" { Answer::Hang } else { Answer::Accept });
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.accept("slow", "SENT").await;
    for number in 0..600 {
        bench.accept(&format!("m{number}"), "SENT").await;
    }
    bench.until("all others are delivered", |snapshot| snapshot.delivered == 600).await;
    bench.crash().await;
    // After a crash what was not heard of comes again, and what came after it in the log, with the same ids.
    destination.now(|_, _| Answer::Accept);
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.drained().await;
    let accepted: BTreeSet<_> = destination.accepted().into_iter().collect();
    assert_eq!(accepted, (1..=601).collect());
    bench.stop().await;
}

#[tokio::test]
async fn a_backlog_may_leave_out_what_was_overtaken() {
    let folder = folder();
    let destination = Destination::new(1, |_, _| Answer::Away);
    let bench = Bench::start(folder.path(), &destination, DeliveryConfig { only_latest: true, ..quick() });
    bench.accept("first", "SENT").await;
    bench.until("it is away", |snapshot| snapshot.away_since.is_some()).await;
    for status in ["SENT", "RECEIVED", "READ", "RECEIVED"] {
        for id in ["a", "b"] {
            bench.accept(id, status).await;
        }
    }
    destination.now(|_, _| Answer::Accept);
    bench.drained().await;
    let given: BTreeSet<_> = destination.seen.lock().unwrap().accepted.iter().cloned().collect();
    // The last RECEIVED of each is an exact duplicate and was not stored.
    assert_eq!(given, [("first", 1), ("a", 6), ("b", 7)].map(|(id, seq)| (id.to_owned(), seq)).into());
    bench.stop().await;
}

#[tokio::test]
async fn a_replay_gives_the_same_changes_again_beside_fresh_ones() {
    let folder = folder();
    let destination = Destination::new(10, |_, _| Answer::Accept);
    let bench = Bench::start(folder.path(), &destination, quick());
    for number in 0..30 {
        bench.accept(&format!("m{number}"), "SENT").await;
    }
    bench.drained().await;
    bench.standing.tell(Command::Replay(Replay { position: 5, until: 25, rate: 10_000.0, delivered: 0 })).await;
    bench
        .until("the replay has begun or is over", |snapshot| snapshot.replay.is_some() || snapshot.delivered == 50)
        .await;
    bench.accept("fresh", "SENT").await;
    bench.until("all is delivered", |snapshot| snapshot.delivered == 51 && snapshot.replay.is_none()).await;
    let mut again: Vec<_> = destination.accepted().split_off(30);
    again.sort_unstable();
    assert_eq!(again, (6..=25).chain([31]).collect::<Vec<_>>());
    bench.stop().await;
}

/// What the model's destination does next, whatever the change.
fn any_answers() -> impl Strategy<Value = Vec<Answer>> {
    let answer = prop_oneof![
        6 => Just(Answer::Accept),
        1 => Just(Answer::Refuse),
        3 => Just(Answer::TryAgain),
        1 => Just(Answer::Away),
    ];
    prop::collection::vec(answer, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Random failures, crashes and restarts: whatever happens, every stored change is delivered or dead in the end, and those
    /// of one message were accepted for the first time in the order stored.
    #[test]
    fn no_change_is_ever_gone_and_each_message_keeps_its_order(
        answers in any_answers(),
        messages in prop::collection::vec(0..6u8, 1..60),
        crashes in prop::collection::vec(0..60usize, 0..4),
        batch in prop::sample::select(vec![1usize, 7, 100]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = folder();
            let turn = std::sync::atomic::AtomicUsize::new(0);
            let destination = Destination::new(batch, move |_, _| {
                let turn = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                // After its script it accepts everything.
                answers.get(turn).copied().unwrap_or(Answer::Accept)
            });
            let mut bench = Bench::start(folder.path(), &destination, quick());
            for (number, message) in messages.iter().enumerate() {
                if crashes.contains(&number) {
                    bench.crash().await;
                    bench = Bench::start(folder.path(), &destination, quick());
                }
                bench.accept(&format!("m{message}"), &format!("STATUS{number}")).await;
            }
            bench.drained().await;
            let stored = bench.store.changes(Query::default(), 0, 1000).await.unwrap().entries;
            prop_assert_eq!(stored.len(), messages.len());
            let dead: BTreeSet<i64> = bench.dead().await.into_iter().map(|(seq, _)| seq).collect();
            let accepted: BTreeSet<i64> = destination.accepted().into_iter().collect();
            let all: BTreeSet<i64> = stored.iter().map(|entry| entry.seq).collect();
            prop_assert_eq!(accepted.union(&dead).copied().collect::<BTreeSet<_>>(), all);
            let mut first_time: BTreeMap<String, Vec<i64>> = BTreeMap::new();
            for (message, seq) in destination.seen.lock().unwrap().accepted.iter() {
                let order = first_time.entry(message.clone()).or_default();
                if !order.contains(seq) {
                    order.push(*seq);
                }
            }
            for order in first_time.values() {
                prop_assert!(order.is_sorted(), "{order:?}");
            }
            bench.stop().await;
            Ok(())
        })?;
    }
}
