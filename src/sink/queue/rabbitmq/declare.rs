//! Declaring at the broker what the configuration says.

use std::fmt;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use super::config::ExchangeType;

/// What is declared, durable all of it.
pub(super) struct Declaration {
    pub(super) exchange_type: ExchangeType,
    /// A quorum queue, and the key that binds it to the exchange.
    pub(super) queue: Option<(ShortString, ShortString)>,
}

impl Declaration {
    /// Declares it. What is there as it should be stays as it is.
    ///
    /// # Errors
    /// When something is there that differs, or the user may not declare it.
    pub(super) async fn declare(&self, channel: &Channel, exchange: &ShortString) -> lapin::Result<()> {
        let kind = match self.exchange_type {
            ExchangeType::Topic => ExchangeKind::Topic,
            ExchangeType::Direct => ExchangeKind::Direct,
            ExchangeType::Fanout => ExchangeKind::Fanout,
        };
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare(exchange.clone(), kind, durable, FieldTable::default()).await?;
        let Some((queue, key)) = &self.queue else { return Ok(()) };
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut quorum = FieldTable::default();
        quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel.queue_declare(queue.clone(), durable, quorum).await?;
        let (queue, exchange, key) = (queue.clone(), exchange.clone(), key.clone());
        channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default()).await
    }
}

impl fmt::Display for Declaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exchange_type = match self.exchange_type {
            ExchangeType::Topic => "topic",
            ExchangeType::Direct => "direct",
            ExchangeType::Fanout => "fanout",
        };
        write!(f, "declared with type {exchange_type}")?;
        let Some((queue, key)) = &self.queue else { return Ok(()) };
        write!(f, " and a queue {:?} bound by {:?}", queue.as_str(), key.as_str())
    }
}
