//! What a consumer sees.

use lapin::types::AMQPValue;

use super::place::Place;
use crate::sink::Body;
use crate::sink::conformance::{Give as _, delivery};
use crate::status::Status;

#[tokio::test]
async fn a_message_is_the_event_and_says_what_it_is_in_its_properties() {
    let place = Place::new().await;
    let change = delivery("3EB0C431C26A1916E07E");
    place.sink("").give(std::slice::from_ref(&change)).await.unwrap();
    let [message] = place.take().await.try_into().unwrap();
    assert_eq!(message.exchange.as_str(), place.exchange);
    assert_eq!(message.routing_key.as_str(), "s.instance_id");
    assert_eq!(message.data, serde_json::to_string(&change.change).unwrap().into_bytes());
    let properties = message.properties;
    let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
    assert_eq!(text(properties.content_type()).as_deref(), Some("application/json"));
    assert_eq!(text(properties.kind()).as_deref(), Some("message.status"));
    assert_eq!(text(properties.app_id()).as_deref(), Some("plugchat-receiver"));
    assert_eq!(text(properties.message_id()), Some(change.change.facts.event_id()));
    assert_eq!(text(properties.correlation_id()).as_deref(), Some("3EB0C431C26A1916E07E"));
    assert_eq!(*properties.timestamp(), Some(1_632_234_645), "the moment, in seconds");
    assert_eq!(*properties.delivery_mode(), Some(2), "persistent");
    assert!(properties.headers().is_none() && properties.expiration().is_none() && properties.user_id().is_none());
}

#[tokio::test]
async fn what_a_change_lacks_or_has_too_much_of_keeps_it_from_nothing() {
    let place = Place::new().await;
    let (mut early, mut undated, mut long) = (delivery("early"), delivery("undated"), delivery(&"é".repeat(128)));
    early.change.facts.moment = Some("1960-01-01T00:00:00Z".parse().unwrap());
    undated.change.facts.moment = None;
    long.change.facts.status = Status::new("");
    place.sink("").give(&[early, undated, long]).await.unwrap();
    let messages = place.take().await;
    let timestamps: Vec<_> = messages.iter().map(|message| *message.properties.timestamp()).collect();
    // A moment that isn't known is the arrival's.
    assert_eq!(timestamps, [None, Some(1_795_348_800), Some(1_632_234_645)]);
    let has_id: Vec<_> = messages.iter().map(|message| message.properties.correlation_id().is_some()).collect();
    assert_eq!(has_id, [true, true, false], "AMQP has no room for more than 255 bytes");
}

#[tokio::test]
async fn bodies_may_be_callbacks_and_attributes_of_cloudevents_be_headers() {
    let place = Place::new().await;
    let mut change = delivery("a b");
    change.change.facts.instance_id = Some("instance.id".into());
    place.sink("body = \"callback\"\ncloudevents = true").give(std::slice::from_ref(&change)).await.unwrap();
    let [message] = place.take().await.try_into().unwrap();
    assert_eq!(message.data, Body::Callback.of(&change.change).unwrap().into_bytes());
    let headers = message.properties.headers().clone().unwrap();
    let headers: Vec<_> = headers.inner().iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
    let expected = [
        ("id", change.change.facts.event_id().as_str()),
        ("partitionkey", "a b"),
        ("source", "/plugchat-receiver/instance.id"),
        ("specversion", "1.0"),
        ("subject", "a b"),
        ("time", "2021-09-21T14:30:45Z"),
        ("type", "message.status"),
    ]
    .map(|(name, value)| (format!("cloudEvents:{name}"), AMQPValue::LongString(value.into())));
    assert_eq!(headers, expected);
}

#[tokio::test]
async fn the_default_exchange_takes_the_routing_key_for_a_queues_name() {
    let place = Place::new().await;
    let sink = place.sink(&format!("exchange = \"\"\nrouting_key = {:?}", place.queue));
    sink.give(&[delivery("m")]).await.unwrap();
    assert_eq!(place.take().await.len(), 1);
}
