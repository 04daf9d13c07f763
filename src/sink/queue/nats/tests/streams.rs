//! Streams that the sink makes, or doesn't.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::{STREAM, message_ids, of_instance, sink};
use crate::sink::FailureKind;
use crate::sink::broker::nats;
use crate::sink::broker::nats_client::Client;
use crate::sink::conformance::{Give as _, delivery, first_failure};
use crate::sink::queue::Broker as _;

const MAKES: &str = "create_stream = { name = \"WHATSAPP\" }";

#[tokio::test]
async fn no_stream_is_made_unless_that_is_configured() {
    let server = nats::start();
    let mut client = Client::connect(server.address());
    first_failure(&sink(server.address(), ""), &[delivery("m")]).await;
    assert_eq!(client.ask("STREAM.NAMES", &json!({}))["total"], 0);
    sink(server.address(), MAKES).give(&[delivery("m")]).await.unwrap();
    assert_eq!(client.ask("STREAM.NAMES", &json!({}))["streams"], json!([STREAM]));
}

#[tokio::test]
async fn a_stream_is_made_as_configured_for_all_subjects_that_there_can_be() {
    let server = nats::start();
    let mut client = Client::connect(server.address());
    let seconds = |seconds: u64| json!(seconds * 1_000_000_000);
    for (name, rest, max_age, window) in [
        ("A", "", 0, 600),
        ("B", ", replicas = 1, max_age = \"1h\", duplicate_window = \"30m\"", 3600, 1800),
        ("C", ", max_age = \"5m\"", 300, 300),
    ] {
        let subject = format!("{name}.x-{{status}}.{{instance_id}}.{{chat}}-{{transition}}.end");
        let rest = format!("subject = \"{subject}\"\ncreate_stream = {{ name = \"{name}\"{rest} }}");
        sink(server.address(), &rest).give(&[delivery("m")]).await.unwrap();
        let made = client.stream(name);
        assert_eq!(made["subjects"], json!([format!("{name}.*.*.*.end")]));
        assert_eq!((&made["max_age"], &made["duplicate_window"]), (&seconds(max_age), &seconds(window)));
        assert_eq!((&made["num_replicas"], &made["storage"]), (&json!(1), &json!("file")));
        for limit in ["max_msgs", "max_bytes", "max_msg_size", "max_msgs_per_subject"] {
            assert_eq!(made[limit], -1, "{limit}");
        }
        assert_eq!(client.count(name), 1);
    }
}

#[tokio::test]
async fn a_stream_that_is_there_is_left_as_it_is_and_what_differs_is_said_once() {
    let server = nats::start();
    let mut client = Client::connect(server.address());
    client.make_stream(STREAM, json!({ "subjects": ["whatsapp.>"], "max_msgs": 100, "storage": "memory" }));
    let there = client.stream(STREAM);
    let log = Log::default();
    let writer = log.clone();
    let _guard = tracing::subscriber::set_default(
        tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(move || writer.clone()).finish(),
    );
    let sink = sink(server.address(), MAKES);
    sink.give(&[delivery("a")]).await.unwrap();
    *sink.connection.lock().await = None;
    sink.give(&[delivery("b")]).await.unwrap();
    assert_eq!(client.stream(STREAM), there);
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let differences = "subjects is whatsapp.> and not whatsapp.status.*; duplicate_window is 2m and not 10m";
    assert_eq!(logged.matches(differences).count(), 1, "{logged}");
}

#[tokio::test]
async fn a_stream_that_was_deleted_is_made_anew_and_nothing_is_refused_for_it() {
    let server = nats::start();
    let mut client = Client::connect(server.address());
    let sink = sink(server.address(), MAKES);
    sink.give(&[delivery("a")]).await.unwrap();
    client.ask(&format!("STREAM.DELETE.{STREAM}"), &json!({}));
    let failure = first_failure(&sink, &[delivery("b")]).await;
    assert_eq!(failure.kind, FailureKind::Away { after: None });
    sink.give(&[delivery("b")]).await.unwrap();
    assert_eq!(message_ids(&client.stored(STREAM)), ["b"]);
}

#[tokio::test]
async fn receivers_that_make_the_same_stream_at_once_make_one() {
    let server = nats::start();
    let sinks: Vec<_> = (0..8).map(|_| sink(server.address(), MAKES)).collect();
    let mut giving = tokio::task::JoinSet::new();
    for (number, sink) in sinks.into_iter().enumerate() {
        giving.spawn(async move { sink.give(&[delivery(&format!("m-{number}"))]).await.unwrap() });
    }
    giving.join_all().await;
    assert_eq!(Client::connect(server.address()).count(STREAM), 8);
}

#[tokio::test]
async fn while_a_stream_cannot_be_made_everything_waits_and_it_says_why() {
    let server = nats::start();
    let mut client = Client::connect(server.address());
    client.make_stream("OTHER", json!({ "subjects": ["whatsapp.status.a"] }));
    for (rest, part) in [
        (MAKES, "the stream WHATSAPP cannot be made: JetStream answers: subjects overlap with an existing stream"),
        ("create_stream = { name = \"WHATSAPP\", replicas = 3 }", "replicas > 1 not supported in non-clustered mode"),
    ] {
        let failure = first_failure(&sink(server.address(), rest), &[of_instance("m", "a")]).await;
        assert_eq!(failure.kind, FailureKind::Away { after: None });
        assert!(failure.cause.contains(part), "{}", failure.cause);
    }
    assert_eq!(client.count("OTHER"), 0);
}

#[tokio::test]
async fn the_permissions_that_the_readme_names_are_enough() {
    let may = |user: &str, publish: &str| {
        let permissions = format!("{{ publish: [\"whatsapp.status.*\", {publish}], subscribe: \"_INBOX.>\" }}");
        format!("{{ user: {user}, password: \"password\", permissions: {permissions} }}\n")
    };
    let publishes = may("publishes", "\"$JS.API.STREAM.NAMES\"");
    let makes = may("makes", "\"$JS.API.STREAM.INFO.WHATSAPP\", \"$JS.API.STREAM.CREATE.WHATSAPP\"");
    let server = nats::start_with(&format!("authorization {{ users: [{publishes}{makes}] }}"));
    let sink = |user: &str, rest: &str| {
        sink(server.address(), &format!("url = \"nats://{user}:password@{}\"\n{rest}", server.address()))
    };
    let publisher = sink("publishes", "");
    assert_eq!(first_failure(&publisher, &[delivery("m")]).await.kind, FailureKind::Refused, "it can ask for streams");
    let failure = first_failure(&sink("publishes", MAKES), &[delivery("m")]).await;
    assert!(failure.cause.contains("no permission to publish to $JS.API.STREAM.INFO.WHATSAPP"), "{}", failure.cause);
    sink("makes", MAKES).give(&[delivery("m")]).await.unwrap();
    publisher.give(&[delivery("n")]).await.unwrap();
    assert!(publisher.reach().await.unwrap().contains("goes to the stream WHATSAPP"));
}

/// Keeps what is logged.
#[derive(Clone, Default)]
pub(super) struct Log(pub(super) Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
