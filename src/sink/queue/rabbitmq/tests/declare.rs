//! What is declared, and what is not.

use lapin::ExchangeKind;
use lapin::options::{BasicGetOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};

use super::place::{Place, channel, name};
use crate::sink::conformance::{Give as _, delivery};
use crate::sink::queue::Broker as _;
use crate::sink::{Delivery, FailureKind};

fn changes() -> [Delivery; 2] {
    let mut other = delivery("b");
    other.change.facts.instance_id = Some("another.one".into());
    [delivery("a"), other]
}

#[tokio::test]
async fn the_exchange_and_a_quorum_queue_for_all_that_is_published_are_declared_if_it_is_told_to() {
    let place = Place::new().await;
    for (kind, declared, key) in [
        (ExchangeKind::Topic, "", "\"{chat}.x.{instance_id}\""),
        (ExchangeKind::Direct, "exchange_type = \"direct\", ", "\"key\""),
        (ExchangeKind::Fanout, "exchange_type = \"fanout\", ", "\"{instance_id}-{chat}\""),
    ] {
        let (exchange, queue) = (name("declared"), name("declared"));
        let lines =
            format!("exchange = \"{exchange}\"\nrouting_key = {key}\ndeclare = {{ {declared}queue = \"{queue}\" }}");
        let reached = place.sink(&lines).reach().await.unwrap();
        assert!(reached.contains("has still to be declared"), "{reached}");
        place.sink(&lines).give(&changes()).await.unwrap();
        // What is there already stays.
        place.sink(&lines).give(&changes()).await.unwrap();
        let reached = place.sink(&lines).reach().await.unwrap();
        assert!(reached.contains(&format!("where the exchange \"{exchange}\" is")), "{reached}");
        // Declared in another way this would fail.
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        place.channel.exchange_declare(exchange.into(), kind, durable, FieldTable::default()).await.unwrap();
        let mut quorum = FieldTable::default();
        quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        let queue = place.channel.queue_declare(queue.into(), durable, quorum).await.unwrap();
        for left in [3, 2, 1, 0] {
            let got = place.channel.basic_get(queue.name().clone(), BasicGetOptions { no_ack: true }).await.unwrap();
            assert_eq!(got.unwrap().message_count, left);
        }
    }
}

#[tokio::test]
async fn what_somebody_deletes_is_declared_again_for_the_next_change() {
    let place = Place::new().await;
    let (exchange, queue) = (name("deleted"), name("deleted"));
    let sink = place.sink(&format!("exchange = \"{exchange}\"\ndeclare = {{ queue = \"{queue}\" }}"));
    sink.give(&changes()).await.unwrap();
    for (is_exchange_deleted, is_queue_deleted) in [(false, true), (true, false), (true, true)] {
        if is_exchange_deleted {
            place.channel.exchange_delete(exchange.as_str().into(), Default::default()).await.unwrap();
        }
        if is_queue_deleted {
            place.channel.queue_delete(queue.as_str().into(), Default::default()).await.unwrap();
        }
        sink.give(&changes()).await.unwrap();
        let no_ack = BasicGetOptions { no_ack: true };
        while place.channel.basic_get(queue.as_str().into(), no_ack).await.unwrap().is_some() {}
    }
    // What is not declared stays missing.
    let sink = place.sink(&format!("exchange = \"{}\"\ndeclare = {{}}", name("unbound")));
    for _ in 0..2 {
        let failure = sink.give(&[delivery("a")]).await.unwrap_err();
        assert!(failure.kind == FailureKind::Refused && failure.cause.contains("unroutable"), "{failure:?}");
    }
}

#[tokio::test]
async fn what_is_declared_differently_already_is_named() {
    let place = Place::new().await;
    let sink = place.sink("declare = { exchange_type = \"fanout\" }");
    let failure = sink.give(&[delivery("a")]).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Away { after: None });
    for part in ["cannot declare", "inequivalent arg 'type'", &place.exchange, "'fanout'", "'topic'"] {
        assert!(failure.cause.contains(part), "no {part} in {}", failure.cause);
    }
    // A queue of another kind, too.
    let queue = &place.queue;
    let sink = place.sink(&format!("declare = {{ queue = \"{queue}\" }}"));
    let failure = sink.give(&[delivery("a")]).await.unwrap_err();
    assert!(failure.cause.contains("inequivalent arg 'x-queue-type'"), "{}", failure.cause);
    assert!(place.take().await.is_empty());
}

#[tokio::test]
async fn nothing_is_declared_unasked_not_even_to_see_whether_it_is_there() {
    let place = Place::new().await;
    let exchange = name("undeclared");
    let lines = format!("exchange = \"{exchange}\"");
    let reached = place.sink(&lines).reach().await.unwrap_err();
    assert!(reached.contains(&format!("no exchange '{exchange}'")), "{reached}");
    place.sink(&format!("{lines}\ndeclare = {{}}")).reach().await.unwrap();
    place.sink(&lines).give(&[delivery("a")]).await.unwrap_err();
    let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let channel = channel(place.address).await;
    let there = channel.exchange_declare(exchange.into(), ExchangeKind::Topic, passive, FieldTable::default()).await;
    assert!(there.unwrap_err().to_string().contains("NOT_FOUND"));
    let default = place.sink("exchange = \"\"\nrouting_key = \"q\"").reach().await.unwrap();
    assert!(default.contains("connected to 127.0.0.1:"), "{default}");
}
