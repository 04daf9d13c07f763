//! A broker that can't be reached, or says nothing.

use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;

use super::place::{Place, id, name};
use crate::sink::broker::proxy::Proxy;
use crate::sink::broker::rabbitmq;
use crate::sink::conformance::{Give as _, delivery, first_failure};
use crate::sink::queue::Broker as _;
use crate::sink::{FailureKind, Sink as _};

const AWAY: FailureKind = FailureKind::Away { after: None };

#[tokio::test]
async fn a_connection_that_does_not_come_about_is_told_with_its_reason_and_without_secrets() {
    let place = Place::new().await;
    let nobody = Proxy::start(place.address, "x");
    nobody.refuse();
    let (there, nowhere) = (place.address, nobody.address());
    for (url, parts) in [
        (format!("amqp://canary-user:canary-word@{there}/%2f"), vec!["the user name or the password is refused"]),
        (format!("amqp://guest:canary-word@{there}"), vec!["the user name or the password is refused"]),
        (format!("amqp://guest:guest@{there}/no-such-host"), vec!["vhost no-such-host not found"]),
        (format!("amqp://canary-user:canary-word@{nowhere}"), vec!["nothing listens there"]),
        ("amqp://canary-user:canary-word@no-such-host.invalid".into(), vec!["name cannot be resolved"]),
        (
            format!("amqp://canary-user:canary-word@{nowhere},amqp://guest:canary-word@{there}"),
            vec!["nothing listens", "; ", "is refused"],
        ),
    ] {
        let sink = place.sink(&format!("url = \"{url}\""));
        let failure = first_failure(&sink, &[delivery("a"), delivery("b")]).await;
        assert_eq!(failure.kind, AWAY, "{failure:?}");
        let reached = sink.reach().await.unwrap_err();
        for told in [&failure.cause, &reached] {
            assert!(parts.iter().all(|part| told.contains(part)), "{url}: {told}");
            assert!(!told.contains("canary") && !told.contains("guest"), "{told}");
        }
    }
    assert!(place.take().await.is_empty());
}

#[tokio::test]
async fn the_nodes_of_a_cluster_are_tried_in_turn() {
    let place = Place::new().await;
    let (one, other) = (Proxy::start(place.address, "x"), Proxy::start(place.address, "x"));
    let sink = place.sink(&format!(
        "url = \"amqp://guest:guest@{}/%2f, amqp://guest:guest@{}/%2f\"",
        one.address(),
        other.address()
    ));
    one.refuse();
    sink.give(&[delivery("a")]).await.unwrap();
    other.refuse();
    one.accept();
    // The connection that was open may have to break first.
    while sink.give(&[delivery("b")]).await.is_err() {}
    other.accept();
    sink.give(&[delivery("c")]).await.unwrap();
    assert_eq!(place.take().await.iter().map(id).collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_broker_that_hangs_is_away_and_gets_everything_when_it_goes_on() {
    let place = Place::new().await;
    let proxy = Proxy::start(place.address, "x");
    let sink = place.sink_by(proxy.address(), "timeout = \"200ms\"");
    // Before there is a connection.
    proxy.stall();
    let failure = first_failure(&sink, &[delivery("a")]).await;
    assert!(failure.kind == AWAY && failure.cause.contains("in time"), "{failure:?}");
    proxy.go_on();
    while sink.give(&[delivery("a")]).await.is_err() {}
    // And after that.
    proxy.stall();
    let changes = [delivery("b"), delivery("c")];
    let failure = first_failure(&sink, &changes).await;
    assert!(failure.kind == AWAY && failure.cause.contains("no confirmation from"), "{failure:?}");
    proxy.go_on();
    while sink.give(&changes).await.is_err() {}
    let mut taken: Vec<_> = place.take().await.iter().map(id).collect();
    taken.sort();
    taken.dedup();
    assert_eq!(taken, ["a", "b", "c"]);
}

#[tokio::test]
async fn what_was_confirmed_counts_though_a_queue_beside_it_is_silent() {
    let broker = rabbitmq::shared();
    let (place, silent) = (Place::new().await, Place::new().await);
    // Both are behind the same exchange.
    let (queue, exchange, key) = (silent.queue.as_str().into(), place.exchange.as_str().into(), "s.silent".into());
    place.channel.queue_bind(queue, exchange, key, Default::default(), Default::default()).await.unwrap();
    let tell_the_queue = |word: &str| {
        let queue =
            format!("{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{}\">>))", silent.queue);
        rabbitmq::ctl(broker, &["eval", &format!("{queue}, sys:{word}(amqqueue:get_pid(Q)).")]);
    };
    let sink = place.sink("timeout = \"500ms\"");
    sink.give(&[delivery("before")]).await.unwrap();
    let link = sink.link().await.unwrap();
    tell_the_queue("suspend");
    let mut to_the_silent = delivery("silent");
    to_the_silent.change.facts.instance_id = Some("silent".into());
    let outcomes = sink.deliver(&[delivery("a"), to_the_silent.clone(), delivery("b")]).await;
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    assert_eq!(outcomes[1].as_ref().unwrap_err().kind, AWAY);
    assert!(Arc::ptr_eq(&link, &sink.link().await.unwrap()), "others go on by the same connection");
    tell_the_queue("resume");
    sink.give(&[to_the_silent]).await.unwrap();
    assert_eq!(place.take().await.iter().map(id).collect::<Vec<_>>(), ["before", "a", "b"], "each once");
    assert!(silent.take().await.iter().all(|message| id(message) == "silent"));
}

#[tokio::test]
async fn a_delivery_waits_for_a_channel_if_there_are_fewer_than_deliveries() {
    let place = Place::new().await;
    let sink = place.sink(&format!("url = \"amqp://guest:guest@{}/%2f?channel_max=2\"", place.address));
    for _ in 0..5 {
        let changes: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|id| [delivery(id)]).into();
        let given = futures_util::future::join_all(changes.iter().map(|changes| sink.deliver(changes))).await;
        assert!(given.iter().flatten().all(Result::is_ok), "{given:?}");
    }
    assert_eq!(place.take().await.len(), 40, "each once");
}

#[tokio::test]
async fn a_user_with_fewer_channels_than_deliveries_is_told_so() {
    let place = Place::new().await;
    let user = name("limited");
    let broker = rabbitmq::shared();
    rabbitmq::ctl(broker, &["add_user", &user, "canary-word"]);
    rabbitmq::ctl(broker, &["set_permissions", &user, ".*", ".*", ".*"]);
    rabbitmq::ctl(broker, &["set_user_limits", &user, "{\"max-channels\": 1}"]);
    let sink = place.sink(&format!("url = \"amqp://{user}:canary-word@{}/%2f\"", place.address));
    let changes = [[delivery("a")], [delivery("b")], [delivery("c")]];
    let given = futures_util::future::join_all(changes.iter().map(|changes| sink.deliver(changes))).await;
    let failures: Vec<_> = given.iter().flatten().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(failures.iter().all(|failure| failure.kind == AWAY && !failure.cause.contains(&user)), "{failures:?}");
    assert!(failures.iter().any(|failure| failure.cause.contains("max-channels")), "{failures:?}");
}

#[tokio::test]
async fn what_speaks_another_protocol_is_named_as_such() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
        }
    });
    let place = Place::new().await;
    let told = place.sink_by(address, "timeout = \"2s\"").reach().await.unwrap_err();
    assert!(told.ends_with("does not speak AMQP; if it wants TLS, use amqps://"), "{told}");
}

#[tokio::test]
async fn a_connection_that_the_broker_closes_is_made_anew() {
    let place = Place::new().await;
    let user = name("closed");
    let broker = rabbitmq::shared();
    rabbitmq::ctl(broker, &["add_user", &user, "canary-word"]);
    rabbitmq::ctl(broker, &["set_permissions", &user, ".*", ".*", ".*"]);
    let sink = place.sink(&format!("url = \"amqp://{user}:canary-word@{}/%2f\"", place.address));
    sink.give(&[delivery("a")]).await.unwrap();
    rabbitmq::ctl(broker, &["close_all_user_connections", &user, "maintenance"]);
    while sink.give(&[delivery("b")]).await.is_err() {}
    let mut taken: Vec<_> = place.take().await.iter().map(id).collect();
    taken.dedup();
    assert_eq!(taken, ["a", "b"]);
}
