//! The one thread that writes: it takes all the jobs that wait, puts them into one transaction, and answers them all.
//!
//! Nothing is answered before `COMMIT` has returned, and with `synchronous=FULL` that is after the sync to disk. Nobody
//! lingers to make batches larger: what comes in while one commit syncs is the next batch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio_util::sync::DropGuard;

use super::counts::{Counts, Tally};
use super::instances::{self, Instances};
use super::room::Room;
use super::{Error, Receipt, changes, exceptions, rejected, retention, schema};
use crate::callback::Callback;

/// The most jobs in one transaction.
const MAX_BATCH: usize = 1024;

/// How long progress of sinks may wait for a transaction to ride in before it gets one of its own.
const PROGRESS_WITHIN: Duration = Duration::from_millis(200);

/// When progress that could not be stored is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// How often retention looks for something to delete when the last look found nothing.
const RETENTION_EVERY: Duration = Duration::from_secs(1);

/// How long to pause between slices of retention when nothing else happens.
const SLICE_PAUSE: Duration = Duration::from_millis(10);

/// How long what was deleted may stand in the write-ahead log.
const LOG_EMPTIED_WITHIN: Duration = Duration::from_secs(600);

/// About what a row of the log takes without its callback's text, together with what is remembered of its message.
const ROW_BYTES: usize = 512;

/// A change to the database other than a callback; says how many rows it was about.
pub(super) type Edit = Box<dyn FnMut(&Connection) -> rusqlite::Result<usize> + Send>;

/// What the writer is sent.
#[expect(clippy::large_enum_variant, reason = "nearly every message is a job, and boxing them would cost each one")]
pub(super) enum Message {
    /// Something to do in the next transaction.
    Job(Job),
    /// A sink has come further.
    Progress,
    /// Empty the write-ahead log, and say whether that could be done.
    EmptyLog(oneshot::Sender<bool>),
    /// Commit what waits, then end.
    Stop,
}

/// Something to do, and who waits for it. The slot bounds how many there are.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) answer: oneshot::Sender<Result<Receipt, Error>>,
    pub(super) slot: OwnedSemaphorePermit,
}

/// What there is to do.
#[expect(clippy::large_enum_variant, reason = "nearly all work is a callback, and boxing them would cost each one")]
pub(super) enum Work {
    /// Store a callback. The rejected body that it was made from, if any, goes in the same transaction.
    Accept { callback: Callback, received_at: Timestamp, rejected_id: Option<i64> },
    /// Anything else that adds to the store, and so needs room: about this many bytes of text.
    Add(Edit, usize),
    /// Anything else that needs no room.
    Edit(Edit),
}

impl Work {
    /// How much room it needs, about.
    fn added_bytes(&self) -> u64 {
        let (rows, text) = match self {
            Self::Accept { callback, .. } => (callback.ids().len(), callback.body().text.len()),
            Self::Add(_, text) => (1, *text),
            Self::Edit(_) => return 0,
        };
        (rows * ROW_BYTES + text) as u64
    }
}

/// What a transaction would come to.
struct Applied {
    results: Vec<Result<Receipt, Error>>,
    tally: Tally,
    /// What has changed of the connected accounts.
    instances: Instances,
}

/// A finished batch, for [`answer`].
pub(super) struct Answers {
    jobs: Vec<Job>,
    results: Vec<Result<Receipt, Error>>,
}

/// Answers finished batches until the writer ends. One task on the runtime does it, because waking a task from there is far
/// cheaper than waking each one from the writer's thread.
pub(super) async fn answer(mut batches: mpsc::UnboundedReceiver<Answers>) {
    while let Some(Answers { jobs, results }) = batches.recv().await {
        for (Job { answer, slot, .. }, result) in jobs.into_iter().zip(results) {
            drop(slot);
            // A caller that has hung up gets no answer; what it sent is stored all the same.
            let _ = answer.send(result);
        }
    }
}

/// What the writer and the store's handles share.
pub(super) struct Shared {
    /// How far each configured sink has come; the writer stores it with whatever it commits next.
    pub(super) places: Mutex<BTreeMap<String, i64>>,
    /// When each connected account was last heard of, as it is on disk.
    pub(super) instances: Mutex<Instances>,
    /// What was committed.
    pub(super) counts: Counts,
    /// Whether a [`Message::Progress`] is on its way.
    pub(super) progress_sent: AtomicBool,
    /// When the last commit succeeded, in milliseconds since the store was opened; negative while it is failing or full.
    pub(super) last_commit_ms: AtomicI64,
    /// The clock of `last_commit_ms`.
    pub(super) opened: Instant,
    /// Since when anybody could have been heard.
    pub(super) opened_at: Timestamp,
}

impl Shared {
    /// A copy of every sink's place.
    pub(super) fn places(&self) -> BTreeMap<String, i64> {
        // Nothing that holds this lock can panic half-way through a change.
        self.places.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connected accounts; only the writer changes them.
    pub(super) fn instances(&self) -> MutexGuard<'_, Instances> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's own state.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) shared: Arc<Shared>,
    pub(super) next_seq: i64,
    /// Tells everybody the latest stored sequence number.
    pub(super) latest: watch::Sender<i64>,
    pub(super) answers: mpsc::UnboundedSender<Answers>,
    pub(super) room: Room,
    pub(super) retention: Duration,
    /// How long texts are kept, when that is less.
    pub(super) body_retention: Option<Duration>,
    /// What of `shared.places` is in the database.
    pub(super) stored_places: BTreeMap<String, i64>,
    /// Dropped with the writer: cancels a token that tells that it has ended.
    pub(super) _ended: DropGuard,
    /// Whether the last commit failed: a failure is logged when it begins and when it is over.
    pub(super) failing: bool,
    /// Likewise, whether deleting failed the last time.
    pub(super) trim_fails: bool,
    /// Whether what is deleted is overwritten. That takes room of its own: where there is none, making room goes first.
    pub(super) overwrites: bool,
    /// When the write-ahead log is to be emptied of what was deleted.
    pub(super) empty_log_at: Option<Instant>,
}

impl Writer {
    /// Runs until [`Message::Stop`], or until nobody is left to send any.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        let mut progress_due: Option<Instant> = None;
        let mut retention_due = Instant::now();
        let mut stopping = false;
        while !stopping {
            let wake = progress_due.map_or(retention_due, |due| due.min(retention_due));
            let mut next = match messages.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut batch = Vec::new();
            let mut emptied = Vec::new();
            while let Some(message) = next.take() {
                match message {
                    Message::Job(job) => batch.push(job),
                    Message::Progress => {
                        // Before the places are read, so that one recorded after that sends another message.
                        self.shared.progress_sent.store(false, Ordering::Release);
                        progress_due.get_or_insert(Instant::now() + PROGRESS_WITHIN);
                    }
                    Message::EmptyLog(tell) => emptied.push(tell),
                    Message::Stop => stopping = true,
                }
                if batch.len() < MAX_BATCH {
                    next = messages.try_recv().ok();
                }
            }
            if !batch.is_empty() || stopping || progress_due.is_some_and(|due| due <= Instant::now()) {
                let committed = self.commit(batch);
                progress_due = progress_due.filter(|_| !committed).map(|_| Instant::now() + RETRY_EVERY);
            }
            for tell in emptied {
                // Whoever wanted it may have given up waiting.
                let _ = tell.send(self.empty_log());
            }
            if retention_due <= Instant::now() {
                retention_due = Instant::now() + if self.trim() { SLICE_PAUSE } else { RETENTION_EVERY };
            }
        }
        // Whoever copies the database of a stopped receiver has all of it in one file, and nothing that was deleted beside it.
        self.empty_log();
        // What was sent after the stop is dropped here, and with it its answer: whoever waits sees that the store stopped.
    }

    /// One transaction for all of it; whether it was committed.
    fn commit(&mut self, mut jobs: Vec<Job>) -> bool {
        let (began, first_seq) = (Instant::now(), self.next_seq);
        let places = self.shared.places();
        let outcome = self.apply(&mut jobs, &places);
        let committed = outcome.is_ok();
        let results = match outcome {
            Ok(Applied { results, tally, instances }) => {
                self.shared.counts.committed(&tally, began.elapsed());
                instances::update(&mut self.shared.instances(), instances);
                self.stored_places = places;
                // A commit that had to leave out what adds is none that shows that the store works.
                let works = if self.room.full { -1 } else { milliseconds(self.shared.opened) };
                self.shared.last_commit_ms.store(works, Ordering::Release);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the store commits again");
                }
                if self.next_seq > first_seq {
                    self.latest.send_replace(self.next_seq - 1);
                }
                results
            }
            Err(error) => {
                self.next_seq = first_seq;
                self.shared.last_commit_ms.store(-1, Ordering::Release);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "cannot commit: callbacks are answered 503 until it works again");
                }
                let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
                if full {
                    self.empty_log();
                }
                vec![Err(if full { Error::Full } else { Error::Failing }); jobs.len()]
            }
        };
        // The task that answers outlives this thread: it ends when this sender is dropped.
        let _ = self.answers.send(Answers { jobs, results });
        committed
    }

    /// What came of each job. Any failure is the failure of all: the transaction is rolled back.
    fn apply(&mut self, jobs: &mut [Job], places: &BTreeMap<String, i64>) -> rusqlite::Result<Applied> {
        self.room.check_file(&self.connection)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Within the transaction, because each look at the database outside of one takes locks of its own.
        let mut left = self.room.left_bytes(&transaction)?;
        let mut results = Vec::with_capacity(jobs.len());
        let (mut tally, mut heard) = (Tally::default(), BTreeMap::new());
        for job in jobs {
            let added = job.work.added_bytes();
            if added > left {
                results.push(Err(Error::Full));
                continue;
            }
            left -= added;
            results.push(match &mut job.work {
                Work::Accept { callback, received_at, rejected_id } => {
                    let (callback, received_at): (&Callback, _) = (callback, *received_at);
                    let next_seq = &mut self.next_seq;
                    let receipt = changes::append(&transaction, callback, received_at, next_seq, &mut tally)?;
                    match rejected_id {
                        Some(id) => drop(rejected::remove(&transaction, *id)?),
                        None => {
                            heard.insert(callback.instance_id().unwrap_or_default(), received_at);
                            tally.came(received_at, callback.moment());
                        }
                    }
                    Ok(receipt)
                }
                Work::Add(edit, _) | Work::Edit(edit) => {
                    Ok(Receipt { stored: 0, duplicates: 0, edited: edit(&transaction)? })
                }
            });
        }
        for (sink, cursor) in places {
            if self.stored_places.get(sink) != Some(cursor) {
                transaction
                    .prepare_cached("UPDATE sink SET cursor = max(cursor, ?2) WHERE name = ?1")?
                    .execute(params![sink, cursor])?;
            }
        }
        let instances = instances::record(&transaction, &self.shared.instances(), heard, self.shared.opened_at)?;
        transaction.commit()?;
        Ok(Applied { results, tally, instances })
    }

    /// Moves what stands in the write-ahead log to the database and empties its file; whether that could be done now. The file stays
    /// as large as a burst or a commit that was rolled back has made it, and on a disk that is nearly full this may be all the room
    /// that there is. It also has what was deleted since.
    fn empty_log(&self) -> bool {
        let without_waiting = || -> rusqlite::Result<bool> {
            // A reader in the way would hold everybody up; this is tried again.
            self.connection.busy_timeout(Duration::ZERO)?;
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0))
        };
        // Where it fails the disk is still full, and the next commit says so.
        let emptied = without_waiting().unwrap_or(false);
        let _ = self.connection.busy_timeout(schema::BUSY_TIMEOUT);
        emptied
    }

    /// The last change that no configured sink has still to be given. Of places on disk: after a crash a sink must not ask for what
    /// is gone.
    fn delivered(&self) -> rusqlite::Result<i64> {
        let mut delivered = i64::MAX;
        for (sink, cursor) in &self.stored_places {
            let oldest = exceptions::oldest_deferred(&self.connection, sink)?;
            delivered = delivered.min(oldest.map_or(*cursor, |oldest| (oldest - 1).min(*cursor)));
        }
        Ok(delivered)
    }

    /// Whether what is deleted is overwritten from now on.
    fn overwrite(&mut self, overwrites: bool) {
        if self.overwrites != overwrites && self.connection.pragma_update(None, "secure_delete", overwrites).is_ok() {
            self.overwrites = overwrites;
        }
    }

    /// Deletes a slice of what is older than the retention, or of the oldest when space runs out; whether there may be more.
    fn trim(&mut self) -> bool {
        let sliced = self.delivered().and_then(|delivered| {
            let short = self.room.is_short(&self.connection)?;
            let ago = |age: Duration| Timestamp::now().checked_sub(age).ok();
            let (before, bodies_before) = match short {
                true => (None, None),
                false => (ago(self.retention), ago(self.body_retention.unwrap_or(self.retention))),
            };
            let changes = retention::delete_slice(&mut self.connection, delivered, before, self.next_seq - 1)?;
            let rejected = retention::delete_rejected(&self.connection, bodies_before)?;
            let cut = match self.body_retention.and(bodies_before) {
                Some(before) => retention::cut_slice(&mut self.connection, delivered, before)?,
                None => 0,
            };
            Ok(changes + rejected + cut)
        });
        match sliced {
            Ok(deleted) => {
                if std::mem::take(&mut self.trim_fails) {
                    tracing::info!("what is older than the retention can be deleted again");
                }
                if deleted == 0 {
                    self.overwrite(true);
                }
                if deleted > 0 {
                    self.empty_log_at.get_or_insert(Instant::now() + LOG_EMPTIED_WITHIN);
                } else if (self.room.full || self.empty_log_at.is_some_and(|due| due <= Instant::now()))
                    && self.empty_log()
                {
                    self.empty_log_at = None;
                }
                deleted > 0
            }
            Err(error) => {
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
                    self.empty_log();
                    self.overwrite(false);
                }
                if !std::mem::replace(&mut self.trim_fails, true) {
                    tracing::error!(%error, "cannot delete what is older than the retention; it is tried again every second");
                }
                false
            }
        }
    }
}

/// Whole milliseconds since then.
pub(super) fn milliseconds(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX)
}
