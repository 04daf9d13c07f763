//! A change as a message, and what becomes of it.

use std::collections::HashMap;

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use tokio::time::{Instant, timeout, timeout_at};

use super::NatsSink;
use super::answer::Answer;
use super::connection::{Connection, NotSent, Reply, Waiting};
use super::streams::Error;
use crate::sink::{Failure, FailureKind, cloudevents};
use crate::status::StatusChange;

/// A change that was published.
pub(super) struct Published {
    subject: String,
    waiting: Waiting,
    until: Instant,
}

impl NatsSink {
    /// Publishes a change. The acknowledgement is waited for elsewhere.
    pub(super) async fn publish(&self, connection: &Connection, change: &StatusChange) -> Result<Published, Failure> {
        let body = self.body.of(change)?;
        let id = change.facts.event_id();
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id.as_str());
        if self.cloudevents {
            for (name, value) in cloudevents::headers(change, &id) {
                headers.insert(name, value);
            }
            headers.insert("ce-datacontenttype", "application/json");
        }
        let subject = self.subject.render(change);
        let sent = timeout(self.timeout, connection.send(subject.clone(), headers, body.into())).await;
        match sent {
            Ok(Ok(waiting)) => Ok(Published { subject, waiting, until: Instant::now() + self.timeout }),
            Ok(Err(NotSent::TooLarge { max_bytes })) => Err(Failure::refused(format!(
                "with its headers it is larger than the {max_bytes} bytes that the server takes (max_payload)"
            ))),
            Ok(Err(NotSent::Subject)) => Err(Failure::refused(format!("{subject} is no subject"))),
            Ok(Err(NotSent::Lost(why))) => Err(self.away(&self.said(&why))),
            Err(_) => Err(self.hangs(connection)),
        }
    }

    /// What became of what was published. `nobody_there` has what is known of subjects that nobody listens on; once that can't be
    /// asked it is not asked again, or each change would wait for its own time-out.
    pub(super) async fn confirmed(
        &self,
        connection: &Connection,
        published: Published,
        nobody_there: &mut HashMap<String, Failure>,
    ) -> Result<(), Failure> {
        let Published { subject, mut waiting, until } = published;
        let Ok(reply) = timeout_at(until, waiting.reply()).await else { return Err(self.hangs(connection)) };
        let message = match reply {
            Reply::Message(message) => message,
            Reply::Denied => {
                return Err(Failure::refused(format!("this user has no permission to publish to {subject}")));
            }
            Reply::Lost(why) => return Err(self.away(&self.said(&why))),
        };
        match Answer::read(&message) {
            Answer::Stored => Ok(()),
            Answer::NotStored(kind, why) => {
                Err(Failure { kind, cause: format!("JetStream does not store it: {}", self.said(&why)) })
            }
            Answer::Foreign => Err(Failure::try_again(format!(
                "something other than JetStream answers to what is published to {subject}"
            ))),
            Answer::NobodyThere => {
                let is_silent = |failure: &&Failure| matches!(failure.kind, FailureKind::Away { .. });
                if let Some(failure) = nobody_there.get(&subject).or_else(|| nobody_there.values().find(is_silent)) {
                    return Err(failure.clone());
                }
                let failure = self.nobody_there(connection, &subject).await;
                nobody_there.insert(subject, failure.clone());
                Err(failure)
            }
        }
    }

    /// What it means that nobody listens on a subject.
    async fn nobody_there(&self, connection: &Connection, subject: &str) -> Failure {
        match self.streams(connection).that_take(subject).await {
            Ok(streams) if !streams.is_empty() => {
                let streams = streams.join(", ");
                self.away(&format!("the stream {streams} takes {subject}, but does not answer: it may have no leader"))
            }
            Ok(_) if self.new_stream.is_some() => {
                let why = format!(
                    "there is no stream that takes {subject}: the one of create_stream is made if it is not there"
                );
                // By the next delivery, which has to connect again.
                connection.give_up(&why);
                self.away(&why)
            }
            Ok(_) => {
                Failure::refused(format!("there is no stream that takes {subject}: make one, or correct the subject"))
            }
            Err(error @ Error::Denied(_)) => Failure::try_again(format!(
                "nobody takes {subject}: there is no stream for it, or one without a leader; which of them can't be asked: {error}"
            )),
            Err(error) => self.away(&format!("nobody takes {subject}: {}", self.said(&error.to_string()))),
        }
    }

    /// There is no answer in time.
    fn hangs(&self, connection: &Connection) -> Failure {
        let why = self.too_slow("no confirmation");
        connection.give_up(&why);
        self.away(&why)
    }
}
