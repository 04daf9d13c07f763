//! Queue sinks: each change as a message at a broker, which confirms that it has it.
//!
//! A broker's file alone knows its client. What they have in common: a batch's messages are all sent before the first confirmation
//! is awaited, what was not confirmed was not delivered, and a connection that failed is dropped and made anew by the next
//! delivery, for ever: pauses between attempts are the engine's.

mod address;
pub mod nats;
pub mod rabbitmq;
pub mod redis;
mod template;

use anyhow::anyhow;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Sink;

pub use address::Address;
pub use template::Template;

/// Which broker: exactly one.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// NATS JetStream.
    pub nats: Option<nats::Config>,
    /// RabbitMQ.
    pub rabbitmq: Option<rabbitmq::Config>,
    /// Redis Streams.
    pub redis: Option<redis::Config>,
}

/// A broker's sink, as the operator sees it.
#[async_trait]
pub(super) trait Broker: Sink {
    /// Where messages go and what they are, for people.
    fn describe(&self) -> String;

    /// Tries whether the broker would take messages, and says what came of it. Hands nothing over.
    ///
    /// # Errors
    /// What keeps it from that, without secrets.
    async fn reach(&self) -> Result<String, String>;
}

enum Kind<'a> {
    Nats(&'a nats::Config),
    Rabbitmq(&'a rabbitmq::Config),
    Redis(&'a redis::Config),
}

impl Config {
    fn one_kind(&self) -> Result<Kind<'_>, String> {
        match (&self.nats, &self.rabbitmq, &self.redis) {
            (Some(nats), None, None) => Ok(Kind::Nats(nats)),
            (None, Some(rabbitmq), None) => Ok(Kind::Rabbitmq(rabbitmq)),
            (None, None, Some(redis)) => Ok(Kind::Redis(redis)),
            (None, None, None) => Err("queue has no broker; add a table such as [sinks.NAME.queue.nats]".into()),
            _ => Err("queue has several brokers; keep one, and give the others a sink of their own".into()),
        }
    }

    /// Checks what the types alone don't say, and what can be checked without reading the files.
    pub(super) fn validate(&self) -> Result<(), String> {
        let checked = match self.one_kind()? {
            Kind::Nats(nats) => nats.validate(),
            Kind::Rabbitmq(rabbitmq) => rabbitmq.validate(),
            Kind::Redis(redis) => redis.validate(),
        };
        checked.map_err(|error| format!("queue.{}.{error}", self.kind()))
    }

    /// The broker's name, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self.one_kind() {
            Ok(Kind::Nats(_)) => "nats",
            Ok(Kind::Rabbitmq(_)) => "rabbitmq",
            Ok(Kind::Redis(_)) => "redis",
            Err(_) => "queue",
        }
    }

    /// Reads the files that the configuration names, and connects to nothing.
    pub(super) fn build(&self) -> anyhow::Result<Box<dyn Broker>> {
        let built = || -> anyhow::Result<Box<dyn Broker>> {
            Ok(match self.one_kind().map_err(anyhow::Error::msg)? {
                Kind::Nats(nats) => Box::new(nats::NatsSink::new(nats)?),
                Kind::Rabbitmq(rabbitmq) => Box::new(rabbitmq::RabbitmqSink::new(rabbitmq)?),
                Kind::Redis(redis) => Box::new(redis::RedisSink::new(redis)?),
            })
        };
        built().map_err(|error| anyhow!("queue.{}.{error:#}", self.kind()))
    }
}
