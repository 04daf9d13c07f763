//! The Redis sink: each change as an entry of a stream.
//!
//! All `XADD`s of a batch are sent before the first reply is awaited, each as a request of its own: so it is known of each whether
//! it was confirmed, also when others are refused or the connection breaks between them.

mod answer;
mod config;
mod connection;
mod last_words;
mod reach;

use std::num::NonZeroU64;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use redis::{Cmd, Value, cmd};
use tokio::sync::Mutex;
use tokio::task::unconstrained;
use tokio::time::timeout;

use super::{Broker, Template};
use crate::sink::body::Body;
use crate::sink::{Delivery, Failure, FailureKind, Sink};
use crate::status::StatusChange;
use connection::{Connection, NoReply, Server};

pub use config::Config;

/// A longer body may be more than the server takes, whose `proto-max-bulk-len` can't be less. One that is costs the connection, so
/// each that may be has a connection of its own.
const LARGE: usize = 1 << 20;

/// Adds each change to a stream.
pub struct RedisSink {
    server: Arc<Server>,
    stream: Template,
    max_length: Option<NonZeroU64>,
    body: Body,
    /// What all deliveries share. Made by the first one that finds none to use.
    connection: Mutex<Option<Arc<Connection>>>,
}

/// A change as the server is given it.
struct Entry {
    /// Or why there is none.
    command: Result<Cmd, Failure>,
    is_large: bool,
}

impl RedisSink {
    /// Reads the files that the configuration names, and connects to nothing.
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            server: Arc::new(config.load_server()?),
            stream: config.stream().map_err(anyhow::Error::msg)?.clone(),
            max_length: config.max_length,
            body: config.body,
            connection: Mutex::default(),
        })
    }

    /// The id, the status and the message id are fields of their own, so that a consumer knows without reading the JSON what it has
    /// seen, and what it wants.
    fn entry(&self, change: &StatusChange) -> Entry {
        let body = match self.body.of(change) {
            Ok(body) => body,
            Err(failure) => return Entry { command: Err(failure), is_large: false },
        };
        let is_large = body.len() > LARGE;
        let mut command = cmd("XADD");
        command.arg(self.stream.render(change));
        if let Some(max_length) = self.max_length {
            command.arg("MAXLEN").arg("~").arg(max_length.get());
        }
        command.arg("*").arg("id").arg(change.facts.event_id()).arg("status").arg(change.facts.status.as_str());
        command.arg("message_id").arg(&change.facts.message_id).arg("body").arg(body);
        Entry { command: Ok(command), is_large }
    }

    /// Adds entries over the shared connection, or a large one alone. The outcomes end with the first that has no reply: none after
    /// it has one.
    async fn add(&self, entries: &[Entry]) -> Vec<Result<(), Failure>> {
        let is_large = entries.iter().any(|entry| entry.is_large);
        let connected = if is_large { self.server.connect().await.map(Arc::new) } else { self.connection().await };
        let connection = match connected {
            Ok(connection) => connection,
            Err(cause) => return vec![Err(Failure::away(cause))],
        };
        let mut replies: FuturesOrdered<_> = entries.iter().map(|entry| add_one(&connection, entry)).collect();
        let mut outcomes = Vec::with_capacity(entries.len());
        loop {
            // Replies come one after the other: as long as one comes in time, the server is there, however long they all take.
            // Without a limit on how much is done in one go, they are all sent in order.
            let reply = match timeout(self.server.timeout, unconstrained(replies.next())).await {
                Ok(Some(reply)) => reply,
                Ok(None) => return outcomes,
                Err(_) => Err(self.server.silence()),
            };
            let has_reply = reply.is_ok();
            let outcome = reply.unwrap_or_else(|cause| {
                // A large one may be why the connection broke.
                Err(if is_large { Failure::try_again(cause) } else { Failure::away(cause) })
            });
            if matches!(&outcome, Err(Failure { kind: FailureKind::Away { .. }, .. })) {
                // The server's name may lead to another one by now, as after a failover.
                connection.give_up();
            }
            outcomes.push(outcome);
            if !has_reply {
                return outcomes;
            }
        }
    }

    /// The shared connection.
    async fn connection(&self) -> Result<Arc<Connection>, String> {
        let connected = async {
            let mut shared = self.connection.lock().await;
            let connection = match shared.take().filter(|connection| connection.is_usable()) {
                Some(connection) => connection,
                None => Arc::new(self.server.connect().await?),
            };
            *shared = Some(Arc::clone(&connection));
            Ok(connection)
        };
        // Whoever waits for another delivery's attempt waits no longer than for one of its own.
        timeout(self.server.timeout, connected).await.unwrap_or_else(|_| Err(self.server.silence()))
    }
}

/// What became of one entry, or why there is no reply.
async fn add_one(connection: &Connection, entry: &Entry) -> Result<Result<(), Failure>, String> {
    let command = match &entry.command {
        Ok(command) => command,
        Err(failure) => return Ok(Err(failure.clone())),
    };
    match connection.request(command).await {
        // The id that the server gave it.
        Ok(Value::BulkString(_)) => Ok(Ok(())),
        Ok(_) => Err(connection.server().says("something other than an entry's id")),
        Err(NoReply::Error(error)) => Ok(Err(answer::failure(connection.server(), &error))),
        Err(NoReply::Lost(cause)) => Err(cause),
    }
}

#[async_trait]
impl Sink for RedisSink {
    async fn deliver(&self, changes: &[Delivery]) -> Vec<Result<(), Failure>> {
        let entries: Vec<_> = changes.iter().map(|delivery| self.entry(&delivery.change)).collect();
        let mut outcomes = Vec::with_capacity(changes.len());
        for run in entries.chunk_by(|one, next| !one.is_large && !next.is_large) {
            let so_far = outcomes.len();
            outcomes.extend(self.add(run).await);
            // Or each of several large ones would wait for a time-out of its own.
            let fails =
                |outcome: &Result<(), Failure>| matches!(outcome, Err(failure) if failure.kind != FailureKind::Refused);
            if outcomes.len() < so_far + run.len() || outcomes[so_far..].iter().any(fails) {
                break;
            }
        }
        outcomes
    }

    fn batch(&self) -> usize {
        256
    }

    /// The server works on one command at a time. While it syncs one batch to disk, the next ones arrive.
    fn concurrency(&self) -> usize {
        4
    }
}

#[async_trait]
impl Broker for RedisSink {
    fn describe(&self) -> String {
        let (body, stream, server) = (self.body.plural(), &self.stream, &self.server);
        let trimmed = match self.max_length {
            Some(max_length) => format!(", trimmed to about {max_length} entries"),
            None => String::new(),
        };
        let timeout = humantime::format_duration(server.timeout);
        format!("{body} into the stream {stream} at {server}{trimmed}, confirmed by the entry's id within {timeout}")
    }

    async fn reach(&self) -> Result<String, String> {
        let stream = self.stream.with_all("_");
        timeout(self.server.timeout, reach::reach(&self.server, &stream))
            .await
            .unwrap_or_else(|_| Err(self.server.silence()))
    }
}

#[cfg(test)]
mod tests;
