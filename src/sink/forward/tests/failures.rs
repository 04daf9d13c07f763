//! What it means when a destination does not take a change.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::destination::{Act, CANARIES, Destination, KEY, config, delivery, failure_of, sink};
use crate::sink::conformance::Give as _;
use crate::sink::forward::ForwardSink;
use crate::sink::{FailureKind, Sink as _};

const AGAIN: FailureKind = FailureKind::TryAgain { after: None };
const AWAY: FailureKind = FailureKind::Away { after: None };

#[tokio::test]
async fn any_2xx_is_accepted_whatever_its_body() {
    for act in [
        Act::answer(200, ""),
        Act::answer(201, "{\"error\": true}"),
        Act::Say("HTTP/1.1 204 No Content\r\n\r\n".into()),
        Act::answer(299, "x"),
        Act::SayAndClose("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of i".into()),
        Act::SayAndClose("HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n4\r\nha".into()),
        // It stays open, and the rest never comes.
        Act::Say("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of i".into()),
        Act::Endless(200),
    ] {
        let destination = Destination::new([act.clone()]).await;
        destination
            .sink("timeout = \"1s\"")
            .give(&[delivery("m")])
            .await
            .unwrap_or_else(|error| panic!("{act:?}: {error:?}"));
        assert_eq!(destination.requests().len(), 1);
    }
}

#[tokio::test]
async fn an_answer_says_what_becomes_of_the_change() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (status, header, kind, cause) in [
        (422, "", FailureKind::Refused, "answered 422: what it says"),
        (404, "retry-after: 5\r\n", FailureKind::Refused, "answered 404: what it says"),
        (304, "", FailureKind::Refused, "answered 304 (redirects are not followed)"),
        (410, "", FailureKind::Gone, "answered 410 (the destination is gone): what it says"),
        (500, "", AGAIN, "answered 500: what it says"),
        (408, "", AGAIN, "answered 408: what it says"),
        (502, "retry-after: 5\r\n", FailureKind::TryAgain { after: seconds(5) }, "answered 502: what it says"),
        (429, "", AGAIN, "answered 429: what it says"),
        (429, "retry-after: 120\r\n", FailureKind::Away { after: seconds(120) }, "answered 429: what it says"),
        (503, "retry-after: soon\r\n", AGAIN, "answered 503: what it says"),
        (
            503,
            "retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            FailureKind::Away { after: seconds(0) },
            "answered 503: what it says",
        ),
    ] {
        let failure = failure_of(Act::with_headers(status, header, "what\n it says"), "").await;
        assert_eq!((failure.kind, failure.cause.as_str()), (kind, cause), "{status} {header}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Destination::new([]).await;
    let header = format!("location: http://{}/canary-query\r\n", elsewhere.address);
    let failure = failure_of(Act::with_headers(307, &header, ""), "").await;
    assert_eq!(failure.kind, FailureKind::Refused);
    assert_eq!(failure.cause, "answered 307 (redirects are not followed)");
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_destination_that_hangs_or_breaks_off_leaves_the_change_to_be_tried_again() {
    for (act, cause) in [
        (Act::Hang, "within 1s"),
        (Act::SayAndClose(String::new()), "the connection closed before an answer came"),
        (Act::SayAndClose("HTTP/1.1 200 OK\r\ncontent-le".into()), "the connection closed before an answer came"),
        (Act::SayAndClose("SSH-2.0-OpenSSH_10.0\r\n".into()), "what came back is not HTTP"),
        (Act::SayAndClose("HTTP/1.1 500 X\r\ncontent-length: 9\r\n\r\nhalf".into()), "answered 500: half"),
    ] {
        let failure = failure_of(act.clone(), "timeout = \"1s\"").await;
        assert_eq!(failure.kind, AGAIN, "{act:?}");
        assert!(failure.cause.contains(cause), "{}", failure.cause);
    }
}

#[tokio::test]
async fn an_answer_without_end_is_read_to_a_bound() {
    let bounded = tokio::time::timeout(Duration::from_secs(30), failure_of(Act::Endless(400), "timeout = \"1h\""));
    let failure = bounded.await.expect("it does not wait for the end");
    assert_eq!(failure.kind, FailureKind::Refused);
    assert_eq!(failure.cause, format!("answered 400: {}…", "x".repeat(200)));
}

#[tokio::test]
async fn a_destination_that_cannot_be_connected_to_is_away() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It accepts connections, and says nothing in the TLS handshake.
    let slow = sink(&format!("url = \"https://{address}/canary-path\"\nconnect_timeout = \"100ms\""));
    let failure = slow.give(&[delivery("m")]).await.unwrap_err();
    assert_eq!(
        (failure.kind, failure.cause),
        (AWAY, format!("no answer from {address}: no connection came about in time"))
    );
    drop(listener);
    let failure = sink(&format!("url = \"http://{address}/canary-path\"")).give(&[delivery("m")]).await.unwrap_err();
    assert_eq!(failure.kind, AWAY);
    assert_eq!(failure.cause, format!("no answer from {address}: the connection was refused: nothing listens there"));
}

/// Resolves every name to these addresses.
struct Fixed(Vec<SocketAddr>);

impl Resolve for Fixed {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses = self.0.clone();
        Box::pin(async move {
            if addresses.is_empty() {
                return Err("no such name".into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[tokio::test]
async fn a_name_that_leads_to_a_refused_address_is_not_connected_to() {
    let destination = Destination::new([]).await;
    let config = config(&format!("url = \"http://crm.example.com:{}/\"", destination.address.port())).unwrap();
    let deliver = async |addresses: &[&str]| {
        let addresses = addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect();
        ForwardSink::with_resolver(&config, Fixed(addresses)).unwrap().give(&[delivery("m")]).await
    };
    for refused in [&["169.254.169.254"][..], &["fe80::1", "::ffff:169.254.169.254"]] {
        let failure = deliver(refused).await.unwrap_err();
        assert_eq!(failure.kind, AWAY);
        assert!(failure.cause.starts_with("no connection to crm.example.com:"), "{}", failure.cause);
        assert!(failure.cause.ends_with("which are refused"), "{}", failure.cause);
    }
    let failure = deliver(&[]).await.unwrap_err();
    assert_eq!(failure.kind, AWAY);
    assert!(failure.cause.contains("its name cannot be resolved"), "{}", failure.cause);
    deliver(&["169.254.169.254", "127.0.0.1"]).await.unwrap();
    assert_eq!(destination.requests().len(), 1);
}

#[tokio::test]
async fn nothing_more_is_given_to_a_destination_that_is_away() {
    let away = Act::with_headers(503, "retry-after: 1\r\n", "");
    let destination = Destination::new([Act::answer(200, ""), Act::answer(400, "no"), away]).await;
    let changes: Vec<_> = ["a", "b", "c", "d", "e"].into_iter().map(delivery).collect();
    let outcomes = destination.sink("").deliver(&changes).await;
    let kinds: Vec<_> = outcomes.into_iter().map(|outcome| outcome.map_err(|failure| failure.kind)).collect();
    let after = Some(Duration::from_secs(1));
    assert_eq!(kinds, [Ok(()), Err(FailureKind::Refused), Err(FailureKind::Away { after })]);
    assert_eq!(destination.message_ids(), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_delivery_that_was_cancelled_can_be_made_again() {
    let mut destination = Destination::new([Act::Hang, Act::Hang]).await;
    let sink = destination.sink("");
    let changes = [delivery("a"), delivery("b")];
    for attempt in 1..=2 {
        tokio::select! {
            _ = sink.give(&changes) => panic!("it hangs"),
            () = destination.wait_for_requests(attempt) => {}
        }
    }
    sink.give(&changes).await.unwrap();
    assert_eq!(destination.message_ids(), ["a", "a", "a", "b"]);
}

#[tokio::test]
async fn several_deliveries_can_be_under_way_at_once() {
    let mut destination = Destination::new([Act::Hang]).await;
    let sink = destination.sink("");
    let first = [delivery("a")];
    let mut hanging = std::pin::pin!(sink.give(&first));
    tokio::select! {
        _ = &mut hanging => panic!("it hangs"),
        () = destination.wait_for_requests(1) => {}
    }
    sink.give(&[delivery("b")]).await.unwrap();
    assert_eq!(destination.message_ids(), ["a", "b"]);
}

#[tokio::test]
async fn no_cause_repeats_a_secret_or_a_phone_number_that_the_destination_echoes() {
    let echo = "/canary-path?key=canary-query canary-header Bearer canary-header Q2FuYXJ5Q2FuYXJ5Q2FuYXJ5Q2FuYXJ5 5544999999999";
    let more = format!("signing_secrets = [\"{KEY}\"]\nheaders = {{ authorization = \"Bearer canary-header\" }}");
    let failure = failure_of(Act::answer(400, echo), &more).await;
    let told = format!("{failure:?}");
    assert!(CANARIES.iter().all(|canary| !told.contains(canary)) && !told.contains("5544999999999"), "{told}");
    assert_eq!(failure.cause, "answered 400: …?… … … … 55449****9999");
}
