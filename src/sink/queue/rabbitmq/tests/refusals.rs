//! What the broker doesn't take, and what that means for the change and for the others of its batch.

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

use super::place::{Place, id, name};
use crate::sink::broker::rabbitmq;
use crate::sink::conformance::{Give as _, delivery};
use crate::sink::queue::Broker as _;
use crate::sink::{Delivery, Failure, FailureKind, Sink};

/// A change whose body has so many bytes, and more.
fn of_size(message_id: &str, bytes: usize) -> Delivery {
    let mut large = delivery(message_id);
    let text = format!(r#"{{"type":"MessageStatusCallback","filler":"{}"}}"#, "x".repeat(bytes));
    large.change.callback = serde_json::value::RawValue::from_string(text).unwrap();
    large
}

/// The place and the cause of each failure, which must be of this kind.
fn failures(outcomes: &[Result<(), Failure>], kind: FailureKind) -> Vec<(usize, String)> {
    let failures = outcomes.iter().enumerate().filter_map(|(index, outcome)| Some((index, outcome.as_ref().err()?)));
    failures
        .map(|(index, failure)| {
            assert_eq!(failure.kind, kind, "{failure:?}");
            (index, failure.cause.clone())
        })
        .collect()
}

const PASSES: FailureKind = FailureKind::TryAgain { after: None };

#[tokio::test]
async fn an_unroutable_change_is_refused_by_exchange_and_key_and_no_other_one_is() {
    let mut place = Place::new().await;
    // A queue in memory confirms at once, and the broker's word on several messages, routed or not, comes as one.
    place.queue = name("in-memory");
    let (queue, exchange) = (|| place.queue.as_str().into(), place.exchange.as_str().into());
    let (options, none) = (QueueDeclareOptions::default(), FieldTable::default);
    place.channel.queue_declare(queue(), options, none()).await.unwrap();
    place.channel.queue_bind(queue(), exchange, "s.fast".into(), Default::default(), none()).await.unwrap();
    let mut changes: Vec<_> = (0..200).map(|number| delivery(&format!("m-{number}"))).collect();
    let is_routed = |index: &usize| index % 7 < 4;
    for (index, change) in changes.iter_mut().enumerate() {
        change.change.facts.instance_id = Some(if is_routed(&index) { "fast" } else { "else.where" }.into());
    }
    let outcomes = place.sink("").deliver(&changes).await;
    let failures = failures(&outcomes, FailureKind::Refused);
    let (routed, unroutable): (Vec<_>, Vec<_>) = (0..200).partition(is_routed);
    assert_eq!(failures.iter().map(|(index, _)| *index).collect::<Vec<_>>(), unroutable);
    let (exchange, key) = (format!("{:?}", place.exchange), "\"s.else_where\"");
    assert!(failures.iter().all(|(_, cause)| cause.contains(&exchange) && cause.contains(key)), "{failures:?}");
    let expected: Vec<_> = routed.iter().map(|number| format!("m-{number}")).collect();
    assert_eq!(place.take().await.iter().map(id).collect::<Vec<_>>(), expected);

    let nowhere = place.sink("exchange = \"\"\nrouting_key = \"no-such-queue\"");
    let cause = nowhere.give(&[delivery("m")]).await.unwrap_err().cause;
    assert!(cause.contains("unroutable") && cause.contains("\"no-such-queue\""), "{cause}");
}

#[tokio::test]
async fn an_exchange_that_is_not_there_refuses_and_is_used_once_it_is_there() {
    let place = Place::new().await;
    let exchange = name("late");
    let sink = place.sink(&format!("exchange = \"{exchange}\""));
    let outcomes = sink.deliver(&[delivery("a"), delivery("b")]).await;
    let failures = failures(&outcomes, FailureKind::Refused);
    assert_eq!(failures.len(), 2);
    assert!(failures[1].1.contains(&format!("NOT_FOUND - no exchange '{exchange}'")), "{failures:?}");
    place
        .channel
        .exchange_declare(exchange.as_str().into(), lapin::ExchangeKind::Fanout, Default::default(), Default::default())
        .await
        .unwrap();
    let (queue, key) = (place.queue.as_str().into(), "".into());
    place.channel.queue_bind(queue, exchange.into(), key, Default::default(), Default::default()).await.unwrap();
    sink.give(&[delivery("a"), delivery("b")]).await.unwrap();
    assert_eq!(place.take().await.len(), 2);
}

#[tokio::test]
async fn a_user_who_may_not_write_is_refused_also_for_some_routing_keys_alone() {
    let place = Place::new().await;
    let broker = rabbitmq::shared();
    let user = name("canary-user");
    rabbitmq::ctl(broker, &["add_user", &user, "canary-word"]);
    let url = format!("url = \"amqp://{user}:canary-word@{}/%2f\"", place.address);
    rabbitmq::ctl(broker, &["set_permissions", &user, ".*", "", ".*"]);
    let reached = place.sink(&url).reach().await.unwrap();
    assert!(reached.contains("whether it may be written to shows only when something is published"), "{reached}");
    let changes = [delivery("a"), delivery("b")];
    let refused = failures(&place.sink(&url).deliver(&changes).await, FailureKind::Refused);
    assert_eq!(refused.len(), 2);
    assert!(refused.iter().all(|(_, cause)| cause.contains("ACCESS_REFUSED") && cause.contains(&place.exchange)));

    rabbitmq::ctl(broker, &["set_permissions", &user, "", ".*", ""]);
    rabbitmq::ctl(broker, &["set_topic_permissions", &user, &place.exchange, "^s.instance_id$", ""]);
    let mut other = delivery("c");
    other.change.facts.instance_id = Some("other".into());
    let outcomes = place.sink(&url).deliver(&[changes[0].clone(), other, changes[1].clone()]).await;
    let one = failures(&outcomes, FailureKind::Refused);
    assert_eq!(one.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1]);
    assert!(one[0].1.contains("s.other"), "{one:?}");
    assert!([refused, one].concat().iter().all(|(_, cause)| !cause.contains("canary")), "neither user nor password");
    let mut taken: Vec<_> = place.take().await.iter().map(id).collect();
    taken.dedup();
    taken.sort();
    taken.dedup();
    assert_eq!(taken, ["a", "b"]);
}

#[tokio::test]
async fn what_a_full_queue_rejects_is_tried_again() {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(2));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let place = Place::at(rabbitmq::shared(), arguments).await;
    let sink = place.sink("");
    sink.give(&[delivery("a"), delivery("b")]).await.unwrap();
    let failures = failures(&sink.deliver(&[delivery("c"), delivery("d")]).await, PASSES);
    assert_eq!(failures.len(), 2);
    assert!(failures[0].1.contains("a queue is full"), "{failures:?}");
    assert_eq!(place.take().await.len(), 2);
    sink.give(&[delivery("c"), delivery("d")]).await.unwrap();
    assert_eq!(place.take().await.iter().map(id).collect::<Vec<_>>(), ["c", "d"]);
}

#[tokio::test]
async fn what_is_too_large_for_the_broker_is_refused_and_no_other_one_is_given_twice_for_it() {
    let broker = rabbitmq::start_with("max_message_size = 20000");
    let place = Place::at(&broker, FieldTable::default()).await;
    let sink = place.sink("");
    let mut changes: Vec<_> = (0..20).map(|number| delivery(&format!("m-{number}"))).collect();
    changes[0] = of_size("too-large-0", 20_000);
    changes[10] = of_size("large", 18_000);
    changes[11] = of_size("too-large-11", 100_000);
    let outcomes = sink.deliver(&changes).await;
    let too_large = failures(&outcomes, FailureKind::Refused);
    assert_eq!(too_large.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 11]);
    assert!(too_large[1].1.contains("max_message_size"), "{too_large:?}");
    let mut taken: Vec<_> = place.take().await.iter().map(id).collect();
    assert_eq!(taken.pop().as_deref(), Some("large"), "one that may be too large is not given before the others");
    let expected: Vec<_> = (1..20).filter(|n| ![10, 11].contains(n)).map(|number| format!("m-{number}")).collect();
    assert_eq!(taken, expected, "each once");

    // A limit so low that nobody could have known: then some are given twice, and still no other one is refused.
    rabbitmq::ctl(&broker, &["eval", "application:set_env(rabbit, max_message_size, 5000)."]);
    let changes = [delivery("a"), of_size("too-large", 6000), delivery("b")];
    let outcomes = place.sink("").deliver(&changes).await;
    assert_eq!(failures(&outcomes, FailureKind::Refused).len(), 1, "{outcomes:?}");
    let mut taken: Vec<_> = place.take().await.iter().map(id).collect();
    taken.sort();
    taken.dedup();
    assert_eq!(taken, ["a", "b"]);
}

#[tokio::test]
async fn what_does_not_fit_into_the_headers_is_refused_and_leaves_the_connection_alone() {
    let place = Place::new().await;
    let sink = place.sink("cloudevents = true");
    let outcomes = sink.deliver(&[delivery("a"), delivery(&"b".repeat(70_000)), delivery("c")]).await;
    let failures = failures(&outcomes, FailureKind::Refused);
    assert_eq!(failures.len(), 1);
    assert!(failures[0].0 == 1 && failures[0].1.contains("too long"), "{failures:?}");
    assert_eq!(place.take().await.len(), 2);
}
