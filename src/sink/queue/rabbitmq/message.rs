//! A change as a message.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::super::Template;
use crate::sink::body::Body;
use crate::sink::{Failure, cloudevents};
use crate::status::StatusChange;

/// On disk, where the queue is durable.
const PERSISTENT: u8 = 2;

/// The most bytes of attributes in a message's headers. They have to fit into one frame, which brokers let be 128 KiB long unless
/// they are told otherwise, and one that is longer breaks the connection.
const MAX_ATTRIBUTES: usize = 32 << 10;

/// What is published.
pub(super) struct Message {
    pub(super) id: String,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: String,
}

/// How messages are made.
pub(super) struct Maker {
    pub(super) routing_key: Template,
    pub(super) body: Body,
    pub(super) cloudevents: bool,
}

impl Maker {
    /// The message of this change.
    ///
    /// # Errors
    /// When there is none: the change is refused.
    pub(super) fn message(&self, change: &StatusChange) -> Result<Message, Failure> {
        let too_long = |what: &str| Failure::refused(format!("{what} is too long for AMQP"));
        let short = |text: String, what: &str| ShortString::try_new(text).map_err(|_| too_long(what));
        let id = change.facts.event_id();
        let mut properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_type("message.status".into())
            .with_app_id("plugchat-receiver".into())
            .with_message_id(short(id.clone(), "the event's id")?);
        // Without its id a message is still on one queue of a consistent-hash exchange: that of all without one.
        if let Ok(message_id) = ShortString::try_new(change.facts.message_id.as_str()) {
            properties = properties.with_correlation_id(message_id);
        }
        let moment = change.facts.moment.unwrap_or(change.received_at);
        // AMQP knows no time before 1970.
        if let Ok(seconds) = u64::try_from(moment.as_second()) {
            properties = properties.with_timestamp(seconds);
        }
        if self.cloudevents {
            let attributes = cloudevents::attributes(change, &id);
            if attributes.iter().map(|(_, value)| value.len()).sum::<usize>() > MAX_ATTRIBUTES {
                return Err(too_long("the message id or the instance id, as a CloudEvents header,"));
            }
            let mut headers = FieldTable::default();
            for (name, value) in attributes {
                headers.insert(format!("cloudEvents:{name}").into(), AMQPValue::LongString(value.into()));
            }
            properties = properties.with_headers(headers);
        }
        Ok(Message {
            id,
            routing_key: short(self.routing_key.render(change), "the routing key")?,
            properties,
            body: self.body.of(change)?,
        })
    }
}
