//! The RabbitMQ sink: each change to an exchange, by AMQP 0-9-1.
//!
//! A batch is published on a channel of its own and then its confirmations are awaited. All deliveries share one connection; one
//! that failed, or on which the broker is silent, is dropped, and the client is never left to reconnect by itself.

mod config;
mod declare;
mod link;
mod message;
mod publish;
mod socket;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::ExchangeDeclareOptions;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{FieldTable, ShortString};
use lapin::uri::AMQPScheme;
use lapin::{ErrorKind, ExchangeKind};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Broker;
use crate::sink::{Delivery, Failure, FailureKind, Sink};
use declare::Declaration;
use link::{Cluster, Link};
use message::{Maker, Message};
use publish::Answer;

pub use config::{Config, Declare, ExchangeType};

/// A larger body is published alone: if it is too large for the broker, the channel closes, and with it goes the word on whatever
/// else is unconfirmed there.
const LARGE: usize = 16 << 10;

/// Publishes each change.
pub struct RabbitmqSink {
    cluster: Cluster,
    /// The connection, if there is one.
    link: Mutex<Option<Arc<Link>>>,
    exchange: ShortString,
    declare: Option<Declaration>,
    maker: Maker,
    timeout: Duration,
    places: String,
}

/// Why a message was not taken.
enum Trouble {
    Failed(Failure),
    /// One of those that were unconfirmed on the same channel was refused for this, and the broker doesn't say which.
    OneOfThem(Failure),
}

impl RabbitmqSink {
    /// Reads the files that the configuration names, and connects to nothing.
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let address = config.load_address().map_err(anyhow::Error::msg)?;
        let nodes = config::nodes(&address).map_err(anyhow::Error::msg)?;
        let is_tls_used = nodes.iter().any(|node| node.scheme == AMQPScheme::AMQPS);
        let cluster = Cluster {
            nodes,
            first: AtomicUsize::new(0),
            tls: Arc::new(config.tls().client_config(is_tls_used)?),
            timeout: config.timeout,
            hidden: address.hidden(),
        };
        Ok(Self {
            cluster,
            link: Mutex::default(),
            exchange: config.load_exchange().map_err(anyhow::Error::msg)?,
            declare: config.load_declare().map_err(anyhow::Error::msg)?,
            maker: Maker {
                routing_key: config.load_routing_key().map_err(anyhow::Error::msg)?,
                body: config.body,
                cloudevents: config.cloudevents,
            },
            timeout: config.timeout,
            places: address.places(),
        })
    }

    /// The connection that all deliveries share, made anew if there is none.
    async fn link(&self) -> Result<Arc<Link>, Failure> {
        let connect = async {
            let mut shared = self.link.lock().await;
            if let Some(link) = shared.as_ref().filter(|link| link.is_open()) {
                return Ok(Arc::clone(link));
            }
            *shared = None;
            let link = Arc::new(self.cluster.connect().await.map_err(Failure::away)?);
            if let Some(declaration) = &self.declare {
                self.declare(&link, declaration).await.map_err(Failure::away)?;
            }
            *shared = Some(Arc::clone(&link));
            Ok(link)
        };
        // Those who wait for somebody else to connect have no more time than that one, who may connect to each node, and declare.
        let steps = u32::try_from(self.cluster.nodes.len()).unwrap_or(u32::MAX).saturating_add(1);
        let in_time = timeout(self.timeout.saturating_mul(steps), connect).await;
        in_time.unwrap_or_else(|_| Err(self.silence()))
    }

    async fn declare(&self, link: &Link, declaration: &Declaration) -> Result<(), String> {
        let declare = async {
            let lent = link.channel(link.place().await).await?;
            declaration.declare(&lent.channel, &self.exchange).await?;
            link.put_back(lent);
            Ok::<_, lapin::Error>(())
        };
        let why = match timeout(self.timeout, declare).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => self.cluster.words(&error),
            Err(_) if link.is_blocked() => return Err(self.alarm()),
            Err(_) => "no answer came in time".into(),
        };
        link.cut();
        Err(format!("cannot declare what the configuration's declare says: {why}"))
    }

    /// Publishes all of these at once.
    async fn publish(&self, messages: &[&Message]) -> Vec<Result<(), Trouble>> {
        let link = match self.link().await {
            Ok(link) => link,
            Err(failure) => return messages.iter().map(|_| Err(Trouble::Failed(failure.clone()))).collect(),
        };
        if link.is_blocked() {
            return messages.iter().map(|_| Err(Trouble::Failed(Failure::away(self.alarm())))).collect();
        }
        let mut answers = publish::publish(&link, &self.exchange, messages, self.timeout).await;
        if let Some(declaration) = &self.declare {
            self.publish_what_went_nowhere(&link, declaration, messages, &mut answers).await;
        }
        let meaning = |(message, answer): (&&Message, Answer)| self.meaning(&link, message, answer);
        messages.iter().zip(answers).map(meaning).collect()
    }

    /// Declares again what somebody may have deleted, and publishes again what went nowhere for that reason.
    async fn publish_what_went_nowhere(
        &self,
        link: &Arc<Link>,
        declaration: &Declaration,
        messages: &[&Message],
        answers: &mut [Answer],
    ) {
        let nowhere: Vec<_> = (0..answers.len()).filter(|&index| is_nowhere(&answers[index])).collect();
        if nowhere.is_empty() {
            return;
        }
        let again = match self.declare(link, declaration).await {
            Ok(()) => {
                let messages: Vec<_> = nowhere.iter().map(|&index| messages[index]).collect();
                publish::publish(link, &self.exchange, &messages, self.timeout).await
            }
            Err(why) => vec![Answer::Undeclared(why); nowhere.len()],
        };
        for (index, answer) in nowhere.into_iter().zip(again) {
            answers[index] = answer;
        }
    }

    fn meaning(&self, link: &Link, message: &Message, answer: Answer) -> Result<(), Trouble> {
        Err(Trouble::Failed(match answer {
            Answer::Confirmed => return Ok(()),
            Answer::Unroutable => Failure::refused(self.unroutable(message)),
            Answer::Nacked => Failure::try_again(
                "the broker does not take it: a queue is full (its overflow is reject-publish), or fails",
            ),
            Answer::Silence if link.is_blocked() => Failure::away(self.alarm()),
            Answer::Silence => self.silence(),
            Answer::Undeclared(why) => Failure::away(why),
            Answer::Closed(error) => {
                let words = self.cluster.words(&error);
                match soft(&error) {
                    // Nothing else about a message can be wrong in this way.
                    Some(AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::CONTENTTOOLARGE) => {
                        return Err(Trouble::OneOfThem(too_large(message)));
                    }
                    // It may be a matter of the routing key.
                    Some(AMQPSoftError::ACCESSREFUSED) => {
                        let cause = format!("{words}: the user needs permission to write there");
                        return Err(Trouble::OneOfThem(Failure::refused(cause)));
                    }
                    Some(AMQPSoftError::NOTFOUND) => {
                        Failure::refused(format!("{words}: declare the exchange, or correct the configuration"))
                    }
                    _ if words.contains("number of channels opened for user") => Failure::away(format!(
                        "{words}: raise the user's max-channels, or lower the sink's delivery.concurrency"
                    )),
                    _ => Failure::away(format!("{} did not confirm: {words}", self.places)),
                }
            }
        }))
    }

    fn unroutable(&self, message: &Message) -> String {
        let key = message.routing_key.as_str();
        match self.exchange.as_str() {
            "" => format!("unroutable: there is no queue {key:?}, the routing key on the default exchange"),
            exchange => {
                format!("unroutable: at the exchange {exchange:?} no queue is bound for the routing key {key:?}")
            }
        }
    }

    fn alarm(&self) -> String {
        format!("{} takes no messages: it has raised an alarm, being short of memory or disk space", self.places)
    }

    fn silence(&self) -> Failure {
        let within = humantime::format_duration(self.timeout);
        Failure::away(format!("no confirmation from {} within {within}", self.places))
    }
}

#[async_trait]
impl Sink for RabbitmqSink {
    /// In rounds: all that are not large at once, then the large ones, each alone.
    async fn deliver(&self, changes: &[Delivery]) -> Vec<Result<(), Failure>> {
        let messages: Vec<_> = changes.iter().map(|delivery| self.maker.message(&delivery.change)).collect();
        let mut outcomes: Vec<_> =
            messages.iter().map(|message| message.as_ref().err().map(|failure| Err(failure.clone()))).collect();
        let sendable = messages.iter().enumerate().filter_map(|(index, message)| Some((index, message.as_ref().ok()?)));
        let (large, others): (Vec<_>, Vec<_>) = sendable.partition(|(_, message)| message.body.len() > LARGE);
        let mut rounds = VecDeque::from([others]);
        rounds.extend(large.into_iter().map(|one| vec![one]));
        while let Some(round) = rounds.pop_front() {
            let batch: Vec<_> = round.iter().map(|(_, message)| *message).collect();
            if batch.is_empty() {
                continue;
            }
            for (&(index, message), published) in round.iter().zip(self.publish(&batch).await) {
                outcomes[index] = match published {
                    Ok(()) => Some(Ok(())),
                    Err(Trouble::Failed(failure)) => Some(Err(failure)),
                    Err(Trouble::OneOfThem(failure)) if round.len() == 1 => Some(Err(failure)),
                    // Which of them it is shows when each is published alone. Some of the others may be there already.
                    Err(Trouble::OneOfThem(_)) => {
                        rounds.push_back(vec![(index, message)]);
                        None
                    }
                };
            }
            let failures = outcomes.iter().filter_map(|outcome| outcome.as_ref()?.as_ref().err());
            let away = failures.clone().find(|failure| matches!(failure.kind, FailureKind::Away { .. })).cloned();
            if let Some(away) = away {
                return outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(away.clone()))).collect();
            }
        }
        outcomes.into_iter().flatten().collect()
    }

    fn batch(&self) -> usize {
        256
    }

    fn concurrency(&self) -> usize {
        4
    }
}

/// What the broker has against a channel, and not against the whole connection.
fn soft(error: &lapin::Error) -> Option<&AMQPSoftError> {
    match error.kind() {
        ErrorKind::ProtocolError(refusal) => match refusal.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}

/// Whether there is no exchange, or no queue, for it.
fn is_nowhere(answer: &Answer) -> bool {
    match answer {
        Answer::Unroutable => true,
        Answer::Closed(error) => soft(error) == Some(&AMQPSoftError::NOTFOUND),
        Answer::Confirmed | Answer::Nacked | Answer::Silence | Answer::Undeclared(_) => false,
    }
}

fn too_large(message: &Message) -> Failure {
    let bytes = message.body.len();
    Failure::refused(format!("its {bytes} bytes are more than the broker takes (max_message_size in rabbitmq.conf)"))
}

#[async_trait]
impl Broker for RabbitmqSink {
    fn describe(&self) -> String {
        let body = self.maker.body.plural();
        let tls = if self.cluster.nodes.iter().all(|node| node.scheme == AMQPScheme::AMQPS) { " over TLS" } else { "" };
        let exchange = match self.exchange.as_str() {
            "" => "the default exchange".to_owned(),
            name => format!("the exchange {name:?}"),
        };
        let declared = self.declare.as_ref().map(|declaration| format!(", {declaration}")).unwrap_or_default();
        let cloudevents = if self.maker.cloudevents { ", with CloudEvents headers" } else { "" };
        format!(
            "{body} to {}{tls}, {exchange}{declared}, routing key {}{cloudevents}, each confirmed within {}",
            self.places,
            self.maker.routing_key,
            humantime::format_duration(self.timeout)
        )
    }

    async fn reach(&self) -> Result<String, String> {
        let link = self.cluster.connect().await?;
        let exchange = self.exchange.as_str();
        let look = async {
            let channel = link.channel(link.place().await).await?.channel;
            // The broker answers questions about all exchanges but the default one, which is always there.
            if exchange.is_empty() {
                return Ok(());
            }
            let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
            channel.exchange_declare(self.exchange.clone(), ExchangeKind::Topic, passive, FieldTable::default()).await
        };
        match timeout(self.timeout, look).await {
            Ok(Ok(())) => {
                let there = match exchange {
                    "" => String::new(),
                    name => format!(", where the exchange {name:?} is"),
                };
                let may = "whether it may be written to shows only when something is published";
                Ok(format!("connected to {}{there}; {may}", self.places))
            }
            Ok(Err(error)) if soft(&error) == Some(&AMQPSoftError::NOTFOUND) && self.declare.is_some() => {
                Ok(format!("connected to {}, where the exchange {exchange:?} has still to be declared", self.places))
            }
            Ok(Err(error)) => Err(self.cluster.words(&error)),
            Err(_) => Err(format!("no answer from {} in time", self.places)),
        }
    }
}

#[cfg(test)]
mod tests;
