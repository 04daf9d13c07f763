//! Servers that hang, close connections, or are none.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

use super::destination::{Destination, sink_to};
use crate::sink::FailureKind;
use crate::sink::broker::proxy::Proxy;
use crate::sink::conformance::{Give as _, delivery, first_failure};
use crate::sink::queue::Broker as _;
use crate::sink::queue::redis::RedisSink;

const AWAY: FailureKind = FailureKind::Away { after: None };

#[tokio::test]
async fn a_server_that_hangs_is_away_and_gets_what_it_has_not_confirmed_when_it_goes_on() {
    let destination = Destination::start();
    let proxy = Proxy::start(destination.server.address(), "\"MessageStatusCallback\"");
    let sink = sink_to(&format!("redis://{}", proxy.address()), "timeout = \"300ms\"");
    sink.give(&[delivery("before")]).await.unwrap();
    proxy.stall();
    // In the middle of a delivery, and while connecting.
    for _ in 0..2 {
        let failure = first_failure(&sink, &["a", "b"].map(delivery)).await;
        assert_eq!(failure.kind, AWAY);
        assert_eq!(failure.cause, format!("no answer from {} within 300ms", proxy.address()));
    }
    assert!(sink.reach().await.unwrap_err().ends_with("within 300ms"));
    // Several at once, of which one connects.
    let [a, b, c] = ["a", "b", "c"].map(|id| [delivery(id)]);
    let failures = tokio::join!(first_failure(&sink, &a), first_failure(&sink, &b), first_failure(&sink, &c));
    for failure in [failures.0, failures.1, failures.2] {
        assert_eq!(failure.kind, AWAY);
    }
    proxy.go_on();
    sink.give(&["a", "b"].map(delivery)).await.unwrap();
    let taken = destination.message_ids("changes");
    assert_eq!(taken[taken.len() - 2..], ["a", "b"]);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_meanwhile_is_replaced_before_it_is_used() {
    let destination = Destination::start();
    let sink = destination.sink("");
    for _ in 0..3 {
        sink.give(&[delivery("m")]).await.unwrap();
        destination.tell("CLIENT KILL TYPE normal SKIPME yes");
        while is_connected(&sink).await {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn after_an_answer_that_means_away_the_next_delivery_connects_anew() {
    let destination = Destination::start();
    let sink = destination.sink("");
    sink.give(&[delivery("a")]).await.unwrap();
    let before = sink.connection.lock().await.clone().unwrap();
    sink.give(&[delivery("b")]).await.unwrap();
    assert!(Arc::ptr_eq(&before, sink.connection.lock().await.as_ref().unwrap()), "one connection for all");
    destination.tell("REPLICAOF 127.0.0.1 1");
    assert!(first_failure(&sink, &[delivery("c")]).await.cause.contains("READONLY"));
    assert!(!is_connected(&sink).await, "its name may lead to another server by now");
    destination.tell("REPLICAOF NO ONE");
    sink.give(&[delivery("c")]).await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_or_no_redis_server_is_away() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let web = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let _ = client.read(&mut [0; 1024]).unwrap();
        client.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").unwrap();
    });
    let failure = first_failure(&sink_to(&format!("redis://{address}"), ""), &[delivery("m")]).await;
    assert_eq!(failure.kind, AWAY);
    assert_eq!(failure.cause, format!("no answer from {address}: what came back is not Redis' protocol"));
    web.join().unwrap();
    for (host, said) in [
        (address.to_string(), "the connection was refused: nothing listens there"),
        ("nowhere.invalid".into(), "its name cannot be resolved: is it spelled right, and does this host have DNS?"),
    ] {
        let sink = sink_to(&format!("redis://canary:canary@{host}"), "timeout = \"30s\"");
        let failure = first_failure(&sink, &[delivery("m")]).await;
        assert_eq!((failure.kind, failure.cause.clone()), (AWAY, format!("no connection to {host}: {said}")));
        assert_eq!(sink.reach().await.unwrap_err(), failure.cause);
    }
}

async fn is_connected(sink: &RedisSink) -> bool {
    sink.connection.lock().await.as_ref().is_some_and(|connection| connection.is_usable())
}
