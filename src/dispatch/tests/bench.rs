//! A store with one sink that is drained to a scripted destination.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Once;

use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub(super) use super::destination::*;
use super::*;
use crate::callback;
use crate::sink::Filter;

/// How long anything may take that does happen, by the wall's clock.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps a paused clock from running ahead while something works that the runtime doesn't know of, such as the store's writer.
struct Frozen {
    _until_dropped: std::sync::mpsc::Sender<()>,
}

impl Frozen {
    fn new() -> Self {
        let (sender, dropped) = std::sync::mpsc::channel();
        tokio::task::spawn_blocking(move || dropped.recv());
        Self { _until_dropped: sender }
    }
}

/// A store with one sink that is drained. On a paused clock time passes only while a test sleeps.
pub(super) struct Bench {
    pub(super) store: Store,
    pub(super) standing: Arc<Standing>,
    stop: CancellationToken,
    drain: JoinHandle<()>,
    /// The drain was made within this time.
    made: [(Instant, Timestamp); 2],
}

/// Pauses that are over at once on a paused clock, and quickly on a real one.
pub(super) fn quick() -> DeliveryConfig {
    DeliveryConfig {
        start: Start::Beginning,
        concurrency: Some(4),
        attempts: 5,
        backoff: Backoff { min: Duration::from_millis(1), max: Duration::from_millis(8) },
        only_latest: false,
    }
}

impl Bench {
    pub(super) fn start(folder: &Path, destination: &Arc<Destination>, config: DeliveryConfig) -> Self {
        Self::start_with(&Sqlite { path: folder.to_owned(), ..Sqlite::default() }, destination, config)
    }

    pub(super) fn start_with(sqlite: &Sqlite, destination: &Arc<Destination>, config: DeliveryConfig) -> Self {
        let sinks = [("sink".to_owned(), config.start)];
        // A read that the last one had under way when it crashed may hold the store for another moment.
        let store = loop {
            match Store::open(sqlite, &sinks, 100) {
                Err(crate::store::OpenError::InUse { .. }) => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        let (standing, commands) = Standing::new("sink".parse().unwrap(), Filter::default());
        let standing = Arc::new(standing);
        let feed = store.feed("sink").unwrap();
        let stop = CancellationToken::new();
        let now = || (Instant::now(), Timestamp::now());
        let before = now();
        let drain = Drain::new(Box::new(Arc::clone(destination)), feed, config, Arc::clone(&standing), commands);
        let made = [before, now()];
        Self { store, standing, drain: tokio::spawn(drain.run(stop.clone())), stop, made }
    }

    /// Stores a change; its sequence number.
    pub(super) async fn accept(&self, message_id: &str, status: &str) -> i64 {
        self.accept_all(&[message_id.to_owned()], status).await
    }

    /// Stores a change of each of these messages in one callback; the last one's sequence number.
    pub(super) async fn accept_all(&self, message_ids: &[String], status: &str) -> i64 {
        let body = json!({ "type": callback::TYPE, "status": status, "ids": message_ids, "phone": "5544999999999" });
        let callback = callback::parse(body.to_string().as_bytes()).unwrap();
        let _frozen = Frozen::new();
        self.store.accept(callback, Timestamp::now(), self.store.admit().unwrap()).await.unwrap();
        self.store.latest()
    }

    pub(super) async fn tell(&self, command: Command) {
        assert!(self.standing.tell(command).await, "the drain has ended");
    }

    pub(super) async fn until(&self, what: &str, is_so: impl Fn(&Snapshot) -> bool) {
        self.eventually(what, async || is_so(&self.standing.snapshot())).await;
    }

    /// Nothing is left to give: the place is at the end of the log and nothing is deferred.
    pub(super) async fn drained(&self) {
        self.eventually("it is drained", async || self.is_at_the_end() && self.deferred().await.is_empty()).await;
    }

    /// The sink's place is at the end of the log.
    pub(super) fn is_at_the_end(&self) -> bool {
        self.store.places()["sink"] >= self.store.latest()
    }

    /// Waits until this is so, by the wall's clock.
    pub(super) async fn eventually(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let begun = std::time::Instant::now();
        while !is_so().await {
            let standing = self.standing.snapshot();
            assert!(begun.elapsed() < PATIENCE, "never: {what}; {standing:?} {:?}", self.store.places());
            // On a thread, so that a paused clock stands still meanwhile.
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
        }
    }

    /// Lets time pass on a paused clock until this is so, by such steps, and the store's writer keep up.
    pub(super) async fn pass(&self, step: Duration, what: &str, is_so: impl Fn(&Snapshot) -> bool) {
        self.eventually(what, async || {
            tokio::time::sleep(step).await;
            is_so(&self.standing.snapshot())
        })
        .await;
    }

    pub(super) async fn deferred(&self) -> Vec<Deferred> {
        self.store.feed("sink").unwrap().deferred(0).await.unwrap()
    }

    /// The earliest and the latest instant that the drain may mean with this time; for one before it was made, when it was.
    pub(super) fn instants(&self, time: Timestamp) -> [Instant; 2] {
        let [before, after] = self
            .made
            .map(|(instant, made)| instant + Duration::try_from(time.duration_since(made)).unwrap_or_default());
        [after, before]
    }

    pub(super) async fn dead(&self) -> Vec<(i64, String)> {
        let dead = self.store.dead("sink", DeadQuery::default(), 0, 10_000).await.unwrap();
        dead.into_iter().map(|dead| (dead.seq, dead.reason)).collect()
    }

    /// Retries all dead letters; how many there were.
    pub(super) async fn revive_dead(&self) -> usize {
        let revived = self.store.revive_dead("sink", DeadQuery::default(), 1000).await.unwrap();
        self.tell(Command::Reload).await;
        revived
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.drain.await.unwrap();
        self.store.close().await;
    }

    /// Ends it as a crash would: what is under way is never heard of.
    pub(super) async fn crash(self) {
        self.drain.abort();
        let _ = self.drain.await;
        self.store.close().await;
    }
}

pub(super) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// What the program's log says in this test's thread, from now on.
pub(super) struct Log;

thread_local! {
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

impl Log {
    /// One log for all threads: those of single threads lose lines that are first said in a thread that has none.
    pub(super) fn start() -> Self {
        static STARTED: Once = Once::new();
        STARTED.call_once(|| {
            let subscriber = tracing_subscriber::fmt().with_writer(|| Self).with_ansi(false).finish();
            tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");
        });
        SAID.take();
        Self
    }

    /// How often it says this.
    pub(super) fn times(&self, text: &str) -> usize {
        SAID.with_borrow(|said| said.matches(text).count())
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        SAID.with_borrow_mut(|said| said.push_str(&String::from_utf8_lossy(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The ids of so many messages.
pub(super) fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}
