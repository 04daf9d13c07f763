//! When the server or its stream as a whole takes nothing.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use async_nats::HeaderMap;
use serde_json::json;
use tokio::time::timeout;

use super::{CANARY, STREAM, message_ids, sink, stream_at, wait_until};
use crate::sink::broker::nats;
use crate::sink::broker::nats_client::Client;
use crate::sink::broker::proxy::Proxy;
use crate::sink::conformance::{Give as _, delivery, first_failure};
use crate::sink::queue::Broker as _;
use crate::sink::queue::nats::connection::{Connection, NotSent, Reply, Waiting};
use crate::sink::{Delivery, FailureKind, Sink as _};

/// How long anything may take that does happen.
const PATIENCE: Duration = Duration::from_secs(20);

const AWAY: FailureKind = FailureKind::Away { after: None };

fn deliveries(prefix: &str, count: usize) -> Vec<Delivery> {
    (0..count).map(|number| delivery(&format!("{prefix}-{number}"))).collect()
}

#[tokio::test]
async fn a_server_that_hangs_is_away_within_the_timeout_and_has_each_change_once_when_it_goes_on() {
    let server = nats::start();
    let mut client = stream_at(server.address());
    let proxy = Proxy::start(server.address(), "MessageStatusCallback");
    let sink = sink(proxy.address(), "timeout = \"200ms\"");
    sink.give(&[delivery("before")]).await.unwrap();
    proxy.stall();
    // More than may be unanswered at once.
    let changes = deliveries("m", 300);
    // On a slow machine the client may notice first, by pings, that nothing comes any more.
    for causes in [["no confirmation within 200ms", "the connection broke"], ["no connection within 200ms", "in time"]]
    {
        let failure = first_failure(&sink, &changes).await;
        assert_eq!(failure.kind, AWAY);
        assert!(causes.iter().any(|cause| failure.cause.ends_with(cause)), "{}", failure.cause);
    }
    proxy.go_on();
    sink.give(&changes).await.unwrap();
    let mut taken = message_ids(&client.stored(STREAM));
    assert_eq!(taken.len(), 301, "each once");
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), 301);
}

#[tokio::test]
async fn what_hangs_holds_up_no_other_delivery_longer_than_itself() {
    let server = nats::start();
    let proxy = Proxy::start(server.address(), "MessageStatusCallback");
    proxy.stall();
    let sink = sink(proxy.address(), "timeout = \"1s\"");
    let changes = [delivery("m")];
    let began = std::time::Instant::now();
    let outcomes =
        tokio::join!(sink.deliver(&changes), sink.deliver(&changes), sink.deliver(&changes), sink.deliver(&changes));
    for outcome in [outcomes.0, outcomes.1, outcomes.2, outcomes.3] {
        assert_eq!(outcome[0].as_ref().unwrap_err().kind, AWAY);
    }
    assert!(began.elapsed() < Duration::from_secs(3), "one after the other would take four");
}

#[tokio::test]
async fn a_connection_that_broke_is_over_and_sends_nothing_any_more() {
    let server = nats::start();
    let mut client = stream_at(server.address());
    let proxy = Proxy::start(server.address(), "MessageStatusCallback");
    let servers = [format!("nats://{}", proxy.address()).parse().unwrap()];
    let connection =
        Connection::open(&servers, async_nats::ConnectOptions::new()).await.unwrap_or_else(|error| panic!("{error}"));
    let publish = || connection.send("whatsapp.status.a".into(), HeaderMap::new(), "{}".into());
    let reply = async |mut waiting: Waiting| timeout(PATIENCE, waiting.reply()).await.expect("there is one");
    let waiting = publish().await.unwrap_or_else(|_| panic!("it is open"));
    assert!(matches!(reply(waiting).await, Reply::Message(_)));
    proxy.refuse();
    // What is sent before it is noticed may wait in the client.
    while let Ok(waiting) = publish().await {
        assert!(matches!(reply(waiting).await, Reply::Lost(_)), "nobody can answer");
    }
    wait_until("the break is noticed", || connection.is_lost()).await;
    proxy.accept();
    assert!(matches!(publish().await, Err(NotSent::Lost(_))));
    drop(connection);
    // Whatever went through the proxy before this one would be there before it.
    sink(proxy.address(), "").give(&[delivery("after")]).await.unwrap();
    assert_eq!(client.count(STREAM), 2);
}

#[tokio::test]
async fn what_cannot_be_connected_to_is_away_and_says_why_without_secrets() {
    let listener = |answer: &'static str| -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(2) {
                // The client may have gone.
                let _ = stream.unwrap().write_all(answer.as_bytes());
            }
        });
        address
    };
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, part) in [
        (nobody, "no connection: the connection was refused"),
        (listener(""), "no connection: "),
        (listener("HTTP/1.1 400 Bad Request\r\n\r\n"), "no connection: "),
    ] {
        let sink =
            sink(address, &format!("url = \"nats://{CANARY}-user:{CANARY}-password@{address}\"\ntimeout = \"5s\""));
        let failure = first_failure(&sink, &[delivery("m")]).await;
        assert_eq!(failure.kind, AWAY);
        assert!(failure.cause.contains(part) && failure.cause.contains(&address.to_string()), "{}", failure.cause);
        let reached = sink.reach().await.unwrap_err();
        assert!(reached.contains(part), "{reached}");
        assert!(!format!("{failure:?} {reached}").contains(CANARY), "{failure:?} {reached}");
    }
}

#[tokio::test]
async fn a_stream_that_is_full_is_away_until_there_is_room() {
    let server = nats::start();
    let mut client = Client::connect(server.address());
    client.make_stream(STREAM, json!({ "subjects": [super::SUBJECTS], "max_msgs": 3, "discard": "new" }));
    let sink = sink(server.address(), "");
    let changes = deliveries("m", 5);
    let outcomes = sink.deliver(&changes).await;
    assert!(outcomes[..3].iter().all(Result::is_ok), "{outcomes:?}");
    for outcome in &outcomes[3..] {
        let failure = outcome.as_ref().unwrap_err();
        assert_eq!(failure.kind, AWAY);
        assert!(failure.cause.contains("maximum messages exceeded"), "{}", failure.cause);
    }
    assert_eq!(client.count(STREAM), 3);
    client.ask(&format!("STREAM.PURGE.{STREAM}"), &json!({}));
    sink.give(&changes[3..]).await.unwrap();
    assert_eq!(message_ids(&client.stored(STREAM)), ["m-3", "m-4"]);
}

#[tokio::test]
async fn without_jetstream_everything_waits() {
    let server = nats::start_with(
        "accounts { A { users: [{ user: us, password: \"password\" }] }, B { jetstream: enabled, users: [{ user: other, password: \"password\" }] } }",
    );
    let sink = sink(server.address(), &format!("url = \"nats://us:password@{}\"", server.address()));
    let failure = first_failure(&sink, &[delivery("m")]).await;
    assert_eq!(failure.kind, AWAY);
    assert!(failure.cause.contains("JetStream not enabled for account"), "{}", failure.cause);
    assert!(sink.reach().await.unwrap_err().contains("JetStream not enabled for account"));
}

#[tokio::test]
async fn a_user_who_may_not_hear_confirmations_is_told_so_at_once() {
    let server = nats::start_with(
        "authorization { users: [{ user: us, password: \"password\", permissions: { publish: \">\", subscribe: \"other.>\" } }] }",
    );
    let sink = sink(server.address(), &format!("url = \"nats://us:password@{}\"\ntimeout = \"20s\"", server.address()));
    let failure = first_failure(&sink, &[delivery("m")]).await;
    assert_eq!(failure.kind, AWAY);
    assert!(failure.cause.contains("Permissions Violation for Subscription to \"_INBOX."), "{}", failure.cause);
}

#[tokio::test]
async fn of_several_servers_any_one_is_enough() {
    let server = nats::start();
    let mut client = stream_at(server.address());
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("url = \"nats://{nobody},nats://{},nats://{nobody}\"", server.address());
    for number in 0..5 {
        sink(nobody, &url).give(&[delivery(&format!("m-{number}"))]).await.unwrap();
    }
    assert_eq!(client.count(STREAM), 5);
}
