//! The NATS sink: each change into a JetStream stream.

mod answer;
mod config;
mod connection;
mod publish;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{ConnectErrorKind, ConnectOptions, ServerAddr};
use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::{Address, Broker, Template};
use crate::network::NoAnswer;
use crate::secret::Hidden;
use crate::sink::body::Body;
use crate::sink::excerpt::excerpt;
use crate::sink::{Delivery, Failure, FailureKind, Sink};
use connection::Connection;
use streams::Streams;

pub use config::{Config, NewStream};

/// Publishes each change, and waits for the stream's acknowledgement.
pub struct NatsSink {
    address: Address,
    servers: Vec<ServerAddr>,
    options: ConnectOptions,
    subject: Template,
    /// All subjects that the template gives.
    subjects: String,
    body: Body,
    cloudevents: bool,
    new_stream: Option<NewStream>,
    timeout: Duration,
    hidden: Hidden,
    /// The one that all deliveries share.
    connection: Mutex<Option<Arc<Connection>>>,
    /// Whether it was said that the stream is not as configured.
    said_other_stream: AtomicBool,
}

impl NatsSink {
    /// Reads the files that the configuration names, and connects to nothing.
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let address = config.load_address()?;
        let servers = config::servers(&address)?;
        // The client takes a connection for broken at the third ping without an answer: soon after a confirmation is overdue.
        let ping_interval = (config.timeout / 2).max(Duration::from_millis(1));
        let options = config
            .load_options(&address)?
            .name(env!("CARGO_PKG_NAME"))
            .ping_interval(ping_interval)
            // So that each server has its turn within the time that there is.
            .connection_timeout(config.timeout / u32::try_from(servers.len()).unwrap_or(u32::MAX));
        let subject = config.subject().map_err(anyhow::Error::msg)?.clone();
        Ok(Self {
            hidden: address.hidden(),
            address,
            servers,
            options,
            subjects: config::wildcard(&subject),
            subject,
            body: config.body,
            cloudevents: config.cloudevents,
            new_stream: config.create_stream.clone(),
            timeout: config.timeout,
            connection: Mutex::default(),
            said_other_stream: AtomicBool::default(),
        })
    }

    /// The connection that there is, or a new one.
    async fn connection(&self) -> Result<Arc<Connection>, Failure> {
        // Those who wait for another one's attempt have no more time than that one.
        let connecting = async {
            let mut shared = self.connection.lock().await;
            if let Some(connection) = shared.as_ref().filter(|connection| !connection.is_lost()) {
                return Ok(Arc::clone(connection));
            }
            *shared = None;
            let connection = Arc::new(self.open().await?);
            self.make_stream(&connection).await?;
            Ok(Arc::clone(shared.insert(connection)))
        };
        let what = if self.new_stream.is_some() { "no connection with a stream" } else { "no connection" };
        timeout(self.timeout, connecting).await.unwrap_or_else(|_| Err(self.away(&self.too_slow(what))))
    }

    async fn open(&self) -> Result<Connection, Failure> {
        let opened = Connection::open(&self.servers, self.options.clone()).await;
        opened.map_err(|error| {
            let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
            let why = match (error.kind(), io) {
                (ConnectErrorKind::AuthorizationViolation, _) => {
                    "the server refuses the user, the password, the token or the key that it was given".into()
                }
                (ConnectErrorKind::Authentication, _) => "the server's challenge can't be signed with the key".into(),
                (ConnectErrorKind::Dns, _) => NoAnswer::Name.to_string(),
                (ConnectErrorKind::TimedOut, _) => NoAnswer::ConnectTimeout.to_string(),
                (_, Some(io)) => self.said(&NoAnswer::from(io).to_string()),
                (_, None) => self.said(&error.to_string()),
            };
            self.away(&format!("no connection: {why}"))
        })
    }

    /// Makes the stream, if that is configured and it is not there.
    async fn make_stream(&self, connection: &Connection) -> Result<(), Failure> {
        let Some(wanted) = &self.new_stream else { return Ok(()) };
        let made = self.streams(connection).make(wanted, &self.subjects).await;
        let name = &wanted.name;
        let differences = made
            .map_err(|why| self.away(&format!("the stream {name} cannot be made: {}", self.said(&why.to_string()))))?;
        if !differences.is_empty() && !self.said_other_stream.swap(true, Ordering::Relaxed) {
            let differences = differences.join("; ");
            tracing::warn!(stream = %name, differences, "the stream is there with another configuration, and is left as it is");
        }
        Ok(())
    }

    fn streams<'a>(&self, connection: &'a Connection) -> Streams<'a> {
        Streams { connection, timeout: self.timeout }
    }

    fn too_slow(&self, what: &str) -> String {
        format!("{what} within {}", humantime::format_duration(self.timeout))
    }

    fn away(&self, why: &str) -> Failure {
        Failure::away(format!("{}: {why}", self.address.places()))
    }

    /// What may be shown of the server's or the client's words.
    fn said(&self, words: &str) -> String {
        excerpt(words.as_bytes(), &self.hidden)
    }
}

#[async_trait]
impl Sink for NatsSink {
    /// All at once, as far as the connection allows. May be called again while a call is under way.
    async fn deliver(&self, changes: &[Delivery]) -> Vec<Result<(), Failure>> {
        let connection = match self.connection().await {
            Ok(connection) => connection,
            Err(failure) => return vec![Err(failure); changes.len()],
        };
        let mut all_published = Vec::with_capacity(changes.len());
        for delivery in changes {
            let published = self.publish(&connection, &delivery.change).await;
            let is_away = matches!(&published, Err(Failure { kind: FailureKind::Away { .. }, .. }));
            all_published.push(published);
            if is_away {
                break;
            }
        }
        let mut outcomes = Vec::with_capacity(changes.len());
        let mut nobody_there = HashMap::new();
        for published in all_published {
            outcomes.push(match published {
                Ok(published) => self.confirmed(&connection, published, &mut nobody_there).await,
                Err(failure) => Err(failure),
            });
        }
        outcomes
    }

    fn batch(&self) -> usize {
        64
    }

    /// Enough to keep the connection full while one call ends and another begins.
    fn concurrency(&self) -> usize {
        3
    }
}

#[async_trait]
impl Broker for NatsSink {
    fn describe(&self) -> String {
        let (body, places) = (self.body.plural(), self.address.places());
        let cloudevents = if self.cloudevents { ", with CloudEvents headers" } else { "" };
        let made = self.new_stream.as_ref().map(|stream| format!(", in the stream {}, which is made", stream.name));
        let timeout = humantime::format_duration(self.timeout);
        format!(
            "{body} to JetStream at {places} as {}{}{cloudevents}, each acknowledged by the stream within {timeout}",
            self.subject,
            made.unwrap_or_default(),
        )
    }

    async fn reach(&self) -> Result<String, String> {
        let opened = timeout(self.timeout, self.open()).await;
        let connection = opened.unwrap_or_else(|_| Err(self.away(&self.too_slow("no connection"))));
        let connection = connection.map_err(|failure| failure.cause)?;
        let (places, subjects) = (self.address.places(), &self.subjects);
        match self.streams(&connection).that_take(subjects).await {
            Ok(streams) if !streams.is_empty() => {
                Ok(format!("{places} answers: {subjects} goes to the stream {}", streams.join(", ")))
            }
            Ok(_) => match &self.new_stream {
                Some(stream) => {
                    Ok(format!("{places} answers: the stream {} is made before the first change", stream.name))
                }
                None => {
                    Err(format!("{places}: there is no stream that takes {subjects}: make one, or set create_stream"))
                }
            },
            Err(error @ streams::Error::Denied(_)) => {
                Ok(format!("{places} answers; whether a stream takes {subjects} can't be asked: {error}"))
            }
            Err(error) => Err(format!("{places}: {}", self.said(&error.to_string()))),
        }
    }
}
