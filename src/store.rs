//! Where changes are kept: an embedded SQLite database, written by one thread. The only module that knows SQL.
//!
//! - `schema`: opening and migrating; `writer`: the one thread that commits; `changes`: the log's rows; `seen`: exact
//!   duplicates and current statuses; `feed`: the log as a sink follows it; `follower`: as others do, of whom nothing is kept;
//!   `exceptions` and `dead`: what a sink was not given; `times`: places in the log by time; `instances`: when each connected
//!   account was last heard of; `counts`: what was committed; `rejected`: bodies that were no callback; `retention` and `room`: what
//!   is deleted, and when nothing more fits; `erasure` and `scrub`: taking one person out; `backup`: a copy of it all.

mod backup;
mod changes;
mod config;
mod counts;
mod dead;
mod erasure;
mod error;
mod exceptions;
mod feed;
mod follower;
mod instances;
mod lock;
mod rejected;
mod retention;
mod room;
mod schema;
mod scrub;
mod seen;
mod times;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use backup::Source;
pub use changes::{Page, Query};
pub use config::{Config, Sqlite, Start};
pub use dead::{Dead, DeadQuery};
pub use error::{Error, OpenError};
pub use exceptions::{Deferred, Exception, Outcome, Reason, Replay};
pub use feed::Feed;
pub use follower::{Follower, Part};
pub use instances::Instance;
pub(crate) use lock::make_folder;
pub use rejected::Rejected;

use crate::callback::Callback;
use crate::status::StatusChange;
use crate::throttle::Throttle;
use writer::{Edit, Job, Message, Shared, Work, Writer};

/// A stored change and its place in the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its sequence number: unique in this store, increasing, not without gaps.
    pub seq: i64,
    /// The change.
    pub change: StatusChange,
}

/// The proof that a commit is on disk. Only the store makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    stored: usize,
    duplicates: usize,
    edited: usize,
}

impl Receipt {
    /// How many changes were new.
    pub fn stored(&self) -> usize {
        self.stored
    }

    /// How many changes were exact duplicates of stored ones.
    pub fn duplicates(&self) -> usize {
        self.duplicates
    }
}

/// A handle on the store; clones are the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    database: PathBuf,
    max_bytes: u64,
    messages: std::sync::mpsc::Sender<Message>,
    slots: Arc<Semaphore>,
    /// One for the probe alone, which has to say something when all the others are taken.
    probing: Arc<Semaphore>,
    shared: Arc<Shared>,
    latest: watch::Receiver<i64>,
    ended: CancellationToken,
    readers: Mutex<Vec<Connection>>,
    read_errors: Throttle,
    reading: Semaphore,
    following: Semaphore,
    tasks: Mutex<Option<(std::thread::JoinHandle<()>, JoinHandle<()>)>>,
    _lock: lock::Lock,
}

/// The most reads at once, and so the most connections that read.
const MAX_READERS: usize = 8;

/// The most lines a minute about reads that failed.
const MAX_READ_ERRORS: u64 = 2;

/// A commit this recent shows that the store works; after longer, a health check makes one of its own.
const RECENT: Duration = Duration::from_secs(5);

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("database", &self.inner.database).finish_non_exhaustive()
    }
}

/// Room for one callback on its way into the store.
#[derive(Debug)]
pub struct Slot(OwnedSemaphorePermit);

impl Store {
    /// Opens the store in `config.path`, making it when there is none, and starts its writer. How long it takes doesn't depend on
    /// how much is stored. `sinks` are those that will follow the log: what they still have to be given is kept, and
    /// nothing is kept for others. `in_flight` bounds the callbacks under way. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`OpenError`], each with what to do.
    pub fn open(config: &Sqlite, sinks: &[(String, Start)], in_flight: usize) -> Result<Self, OpenError> {
        let folder = config.path.as_path();
        lock::make_folder(folder).map_err(|error| OpenError::Folder { path: folder.to_owned(), error })?;
        let lock = lock::Lock::take(folder)?;
        let database = folder.join("store.sqlite3");
        lock::refuse_emptied(&database)?;
        lock::make_private(&database).map_err(|error| OpenError::Folder { path: database.clone(), error })?;
        let connection = schema::open_writer(&database)?;
        let file = room::file_id(&database).map_err(|error| OpenError::Folder { path: database.clone(), error })?;
        let last_seq: i64 = connection.query_row(
            "SELECT max(seq, coalesce((SELECT max(seq) FROM change), 0)) FROM last_seq",
            [],
            |row| row.get(0),
        )?;
        let places = feed::register(&connection, sinks, last_seq)?;
        let shared = Arc::new(Shared {
            places: Mutex::new(places.clone()),
            progress_sent: AtomicBool::new(false),
            instances: Mutex::new(instances::load(&connection)?),
            counts: counts::Counts::new(),
            last_commit_ms: AtomicI64::new(0),
            opened: Instant::now(),
            opened_at: Timestamp::now(),
        });
        let (messages, receiver) = std::sync::mpsc::channel();
        let (latest_sender, latest) = watch::channel(last_seq);
        let (answers, batches) = mpsc::unbounded_channel();
        let ended = CancellationToken::new();
        let writer = Writer {
            connection,
            shared: Arc::clone(&shared),
            next_seq: last_seq + 1,
            latest: latest_sender,
            answers,
            room: room::Room { folder: folder.to_owned(), max_bytes: config.max_size, file, full: false },
            retention: config.retention,
            body_retention: config.body_retention,
            stored_places: places,
            _ended: ended.clone().drop_guard(),
            failing: false,
            trim_fails: false,
            overwrites: true,
            empty_log_at: None,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(&receiver))
            .map_err(OpenError::Thread)?;
        let answering = tokio::spawn(writer::answer(batches));
        Ok(Self {
            inner: Arc::new(Inner {
                database,
                max_bytes: config.max_size,
                messages,
                slots: Arc::new(Semaphore::new(in_flight)),
                probing: Arc::new(Semaphore::new(1)),
                shared,
                latest,
                ended,
                readers: Mutex::new(Vec::new()),
                read_errors: Throttle::new(MAX_READ_ERRORS, Duration::from_secs(60)),
                reading: Semaphore::new(MAX_READERS),
                following: Semaphore::new(follower::MAX_READERS),
                tasks: Mutex::new(Some((thread, answering))),
                _lock: lock,
            }),
        })
    }

    /// Room for one callback, taken before its body is read.
    ///
    /// # Errors
    /// [`Error::Busy`] at once when there is none.
    pub fn admit(&self) -> Result<Slot, Error> {
        Arc::clone(&self.inner.slots).try_acquire_owned().map(Slot).map_err(|_| Error::Busy)
    }

    /// Room for one job of our own, waited for.
    async fn slot(&self) -> Result<Slot, Error> {
        Arc::clone(&self.inner.slots).acquire_owned().await.map(Slot).map_err(|_| Error::Stopped)
    }

    /// Stores a callback; returns when it is on disk. The work goes on when the caller gives up waiting.
    ///
    /// # Errors
    /// [`Error`]; then nothing of it was stored.
    pub async fn accept(&self, callback: Callback, received_at: Timestamp, slot: Slot) -> Result<Receipt, Error> {
        self.submit(Work::Accept { callback, received_at, rejected_id: None }, slot).await
    }

    /// Whether the store commits: a recent commit, else one made now.
    ///
    /// # Errors
    /// Why it doesn't.
    pub async fn probe(&self) -> Result<(), Error> {
        let shared = &self.inner.shared;
        let last = shared.last_commit_ms.load(Ordering::Acquire);
        let recent = i64::try_from(RECENT.as_millis()).unwrap_or(i64::MAX);
        if last > 0 && writer::milliseconds(shared.opened) - last < recent {
            return Ok(());
        }
        let touch: Edit = Box::new(|connection| connection.execute("UPDATE last_seq SET seq = seq", []));
        let slot = Arc::clone(&self.inner.probing).acquire_owned().await.map_err(|_| Error::Stopped)?;
        self.submit(Work::Add(touch, 0), Slot(slot)).await.map(drop)
    }

    async fn submit(&self, work: Work, Slot(slot): Slot) -> Result<Receipt, Error> {
        let (answer, answered) = oneshot::channel();
        self.inner.messages.send(Message::Job(Job { work, answer, slot })).map_err(|_| Error::Stopped)?;
        answered.await.map_err(|_| Error::Stopped)?
    }

    /// The log as the sink of this name follows it; `None` for a sink that the store was not opened with.
    pub fn feed(&self, sink: &str) -> Option<Feed> {
        let cursor = *self.inner.shared.places().get(sink)?;
        Some(Feed { store: self.clone(), sink: sink.to_owned(), cursor, latest: self.inner.latest.clone() })
    }

    /// How far each sink has come.
    pub fn places(&self) -> BTreeMap<String, i64> {
        self.inner.shared.places()
    }

    /// The sequence number of the latest stored change.
    pub fn latest(&self) -> i64 {
        *self.inner.latest.borrow()
    }

    /// Stored changes in order: at most `limit` of those that match, after `after`.
    ///
    /// # Errors
    /// [`Error`] when the store can't be read.
    pub async fn changes(&self, query: Query, after: i64, limit: usize) -> Result<Page, Error> {
        const MAX_ROWS: usize = 50_000;
        const MAX_BYTES: usize = 8 << 20;
        self.read(move |connection| changes::page(connection, &query, after, limit, MAX_ROWS, MAX_BYTES)).await
    }

    /// What is kept of a message, in the order stored: at most the latest `limit`, and 8 MiB of callbacks; and whether there
    /// were older ones.
    ///
    /// # Errors
    /// [`Error`] when the store can't be read.
    pub async fn message(&self, message_id: String, limit: usize) -> Result<(Vec<Entry>, bool), Error> {
        const MAX_BYTES: usize = 8 << 20;
        self.read(move |connection| {
            let seqs = seen::history(connection, &message_id)?;
            let mut entries = Vec::new();
            let mut bytes = 0;
            for seq in seqs.iter().rev().take(limit) {
                if bytes > MAX_BYTES {
                    break;
                }
                let Some(entry) = changes::find(connection, *seq)? else { continue };
                bytes += entry.change.callback.get().len();
                entries.push(entry);
            }
            entries.reverse();
            let oldest = entries.first().map(|entry| entry.seq);
            Ok((entries, oldest.is_some_and(|oldest| seqs.first().is_some_and(|first| *first < oldest))))
        })
        .await
    }

    /// Runs a short read on a thread for blocking work.
    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let _reading = self.inner.reading.acquire().await.map_err(|_| Error::Stopped)?;
        let inner = Arc::clone(&self.inner);
        let work = tokio::task::spawn_blocking(move || {
            let pooled = inner.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = pooled.map_or_else(|| schema::open_reader(&inner.database), Ok)?;
            let result = query(&connection);
            inner.readers.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            result
        });
        match work.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                // A sink asks again every second.
                if self.inner.read_errors.admit() {
                    tracing::error!(%error, "cannot read the store: sinks try again every second, and commands are answered 503");
                }
                Err(Error::Failing)
            }
            // The runtime is shutting down, or the query panicked, which the panic hook has said.
            Err(_) => Err(Error::Stopped),
        }
    }

    /// Completes when the writer has ended, whatever the reason: before [`close`](Self::close) that is a fault.
    pub async fn writer_ended(&self) {
        self.inner.ended.cancelled().await;
    }

    /// Commits what waits, then ends the writer. Later calls to the store get [`Error::Stopped`].
    pub async fn close(&self) {
        // The writer may have ended by itself.
        let _ = self.inner.messages.send(Message::Stop);
        let tasks = self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((thread, answering)) = tasks {
            // The answering task ends when the writer has ended and every answer is given.
            let _ = answering.await;
            if thread.join().is_err() {
                tracing::error!("the store's writer panicked");
            }
        }
    }
}

impl Inner {
    fn send_progress(&self) {
        // After the writer has ended there is nowhere to store it; the changes will come again.
        let _ = self.messages.send(Message::Progress);
    }
}

#[cfg(test)]
mod tests;
