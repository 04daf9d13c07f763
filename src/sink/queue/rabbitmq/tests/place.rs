//! An exchange and a queue at a broker, and how a test looks into the queue.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use lapin::message::Delivery as Message;
use lapin::options::{
    BasicGetOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};

use crate::sink::broker::{Server, rabbitmq};
use crate::sink::queue::rabbitmq::{Config, RabbitmqSink};

/// A topic exchange, and a queue that is bound to it for the changes of `instance.id`.
pub(super) struct Place {
    pub(super) address: SocketAddr,
    pub(super) exchange: String,
    pub(super) queue: String,
    pub(super) channel: Channel,
}

impl Place {
    /// At the server that all tests share.
    pub(super) async fn new() -> Self {
        Self::at(rabbitmq::shared(), FieldTable::default()).await
    }

    /// At this one, with these arguments for the queue.
    pub(super) async fn at(server: &Server, arguments: FieldTable) -> Self {
        let (exchange, queue) = (name("exchange"), name("queue"));
        let channel = channel(server.address()).await;
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let kind = ExchangeKind::Topic;
        channel.exchange_declare(exchange.as_str().into(), kind, durable, FieldTable::default()).await.unwrap();
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(queue.as_str().into(), durable, arguments).await.unwrap();
        let (from, to, key) = (exchange.as_str().into(), queue.as_str().into(), "s.instance_id".into());
        channel.queue_bind(to, from, key, QueueBindOptions::default(), FieldTable::default()).await.unwrap();
        Self { address: server.address(), exchange, queue, channel }
    }

    /// A sink for it, with `lines` more of configuration.
    pub(super) fn sink(&self, lines: &str) -> RabbitmqSink {
        self.sink_by(self.address, lines)
    }

    /// Likewise, by way of this address.
    pub(super) fn sink_by(&self, address: SocketAddr, lines: &str) -> RabbitmqSink {
        let mut lines = lines.to_owned();
        for (key, value) in [
            ("url", format!("amqp://guest:guest@{address}/%2f")),
            ("exchange", self.exchange.clone()),
            ("routing_key", "s.{instance_id}".into()),
        ] {
            if !lines.lines().any(|line| line.starts_with(&format!("{key} "))) {
                lines.push_str(&format!("\n{key} = {value:?}"));
            }
        }
        sink(&lines)
    }

    /// Takes all messages out of the queue.
    pub(super) async fn take(&self) -> Vec<Message> {
        let mut messages = Vec::new();
        let no_ack = BasicGetOptions { no_ack: true };
        while let Some(message) = self.channel.basic_get(self.queue.as_str().into(), no_ack).await.unwrap() {
            messages.push(message.delivery);
        }
        messages
    }
}

/// A name that nothing else has.
pub(super) fn name(kind: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{kind}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A channel of a client that is nobody's sink, with confirmations.
pub(super) async fn channel(address: SocketAddr) -> Channel {
    let url = format!("amqp://guest:guest@{address}/%2f");
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    channel
}

/// The WhatsApp message's id, as the event in the body has it.
pub(super) fn id(message: &Message) -> String {
    let event: serde_json::Value = serde_json::from_slice(&message.data).unwrap();
    event["message_id"].as_str().unwrap().to_owned()
}

pub(super) fn config(lines: &str) -> Result<Config, String> {
    let config: Config = toml::from_str(lines).map_err(|error| error.to_string())?;
    config.validate()?;
    Ok(config)
}

pub(super) fn sink(lines: &str) -> RabbitmqSink {
    RabbitmqSink::new(&config(lines).unwrap()).unwrap()
}
