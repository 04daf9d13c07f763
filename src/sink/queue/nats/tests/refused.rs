//! What the server or the stream will never take.

use serde_json::json;

use super::{STREAM, SUBJECTS, large, message_ids, of_instance, sink, stream_at};
use crate::sink::broker::nats;
use crate::sink::broker::nats_client::{Client, Stored};
use crate::sink::broker::proxy::Proxy;
use crate::sink::conformance::{Give as _, delivery, first_failure};
use crate::sink::queue::Broker as _;
use crate::sink::{Delivery, Failure, FailureKind, Sink as _};

const AGAIN: FailureKind = FailureKind::TryAgain { after: None };

/// How much of a server's `max_payload` a message takes up.
fn size(stored: &Stored) -> usize {
    let line = |(name, value): &(String, String)| name.len() + value.len() + ": \r\n".len();
    "NATS/1.0\r\n\r\n".len() + stored.headers.iter().map(line).sum::<usize>() + stored.body.len()
}

fn causes(outcomes: &[Result<(), Failure>], kind: FailureKind) -> Vec<&str> {
    let failures = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    failures
        .inspect(|failure| assert_eq!(failure.kind, kind, "{failure:?}"))
        .map(|failure| failure.cause.as_str())
        .collect()
}

#[tokio::test]
async fn what_is_larger_than_the_server_takes_is_refused_to_the_byte_before_it_is_sent() {
    const MOST: usize = 9000;
    let server = nats::start_with(&format!("max_payload: {MOST}"));
    let mut client = stream_at(server.address());
    for cloudevents in [false, true] {
        let sink = sink(server.address(), &format!("cloudevents = {cloudevents}"));
        sink.give(&[large(&format!("{cloudevents}-0"), 0)]).await.unwrap();
        let room = MOST - size(client.stored(STREAM).last().unwrap());
        let changes = [1, 2, 3]
            .map(|number| large(&format!("{cloudevents}-{number}"), if number == 2 { room + 1 } else { room }));
        let outcomes = sink.deliver(&changes).await;
        let [cause] = causes(&outcomes, FailureKind::Refused)[..] else { panic!("{outcomes:?}") };
        assert!(outcomes[1].is_err() && cause.contains("9000 bytes") && cause.contains("max_payload"), "{cause}");
    }
    let stored = client.stored(STREAM);
    assert_eq!(message_ids(&stored), ["false-0", "false-1", "false-3", "true-0", "true-1", "true-3"]);
    assert_eq!(stored.iter().filter(|stored| size(stored) == MOST).count(), 4);
}

#[tokio::test]
async fn what_is_larger_than_the_stream_takes_is_refused() {
    let server = nats::start();
    let mut client = Client::connect(server.address());
    client.make_stream(STREAM, json!({ "subjects": [SUBJECTS], "max_msg_size": 2000 }));
    let outcomes = sink(server.address(), "").deliver(&[delivery("a"), large("b", 3000), delivery("c")]).await;
    let [cause] = causes(&outcomes, FailureKind::Refused)[..] else { panic!("{outcomes:?}") };
    assert!(cause.contains("message size exceeds maximum allowed"), "{cause}");
    assert_eq!(message_ids(&client.stored(STREAM)), ["a", "c"]);
}

#[tokio::test]
async fn what_no_stream_takes_is_refused_and_says_so_and_goes_in_once_there_is_one() {
    let server = nats::start();
    let mut client = Client::connect(server.address());
    client.make_stream("A", json!({ "subjects": ["whatsapp.status.a"] }));
    let sink = sink(server.address(), "");
    let changes: Vec<_> =
        (0..10).map(|number| of_instance(&format!("m-{number}"), if number % 2 == 0 { "a" } else { "b" })).collect();
    let outcomes = sink.deliver(&changes).await;
    let causes = causes(&outcomes, FailureKind::Refused);
    assert_eq!(causes.len(), 5, "{outcomes:?}");
    assert_eq!(causes[0], "there is no stream that takes whatsapp.status.b: make one, or correct the subject");
    assert_eq!(client.count("A"), 5);
    client.make_stream("B", json!({ "subjects": ["whatsapp.status.b"] }));
    sink.give(&changes).await.unwrap();
    assert_eq!((client.count("A"), client.count("B")), (5, 5));
}

#[tokio::test]
async fn a_subject_that_the_user_may_not_publish_to_is_refused_at_once_and_the_others_go_in() {
    let server = nats::start_with(
        "authorization { users: [
            { user: all, password: all }
            { user: some, password: \"password\", permissions: { publish: [\"whatsapp.status.a\"], subscribe: \"_INBOX.>\" } }
         ] }",
    );
    let mut client = Client::connect_as(server.address(), json!({ "user": "all", "pass": "all" }));
    client.make_stream(STREAM, json!({ "subjects": [SUBJECTS] }));
    let proxy = Proxy::start(server.address(), "MessageStatusCallback");
    let url = format!("url = \"nats://some:password@{}\"\ntimeout = \"20s\"", proxy.address());
    let sink = sink(proxy.address(), &url);
    sink.give(&[of_instance("before", "a")]).await.unwrap();
    // More complaints at once, each of another subject, than the client would hold.
    proxy.stall();
    let instance = |number: usize| if number.is_multiple_of(10) { "a".to_owned() } else { format!("no-{number}") };
    let changes: Vec<Delivery> =
        (0..600).map(|number| of_instance(&format!("m-{number}"), &instance(number))).collect();
    let (outcomes, ()) = tokio::join!(sink.deliver(&changes), async {
        // So that as many are sent as can be.
        for _ in 0..5000 {
            tokio::task::yield_now().await;
        }
        proxy.go_on();
    });
    let causes = causes(&outcomes, FailureKind::Refused);
    assert_eq!((outcomes.len(), causes.len()), (600, 540));
    assert!(causes[0].contains("no permission to publish to whatsapp.status.no-1"), "{}", causes[0]);
    assert_eq!(client.count(STREAM), 61);
    assert!(sink.reach().await.unwrap().contains("can't be asked"), "nor may it ask for streams");
}

#[tokio::test]
async fn where_it_cannot_be_asked_whether_there_is_a_stream_the_change_is_tried_again() {
    let server = nats::start_with(
        "authorization { users: [{ user: us, password: \"password\", permissions: { publish: \"whatsapp.>\", subscribe: \"_INBOX.>\" } }] }",
    );
    let sink = sink(server.address(), &format!("url = \"nats://us:password@{}\"", server.address()));
    let failure = first_failure(&sink, &[delivery("m")]).await;
    assert_eq!(failure.kind, AGAIN);
    assert!(failure.cause.contains("no permission to publish to $JS.API.STREAM.NAMES"), "{}", failure.cause);
}

#[tokio::test]
async fn a_stream_that_is_sealed_refuses_everything() {
    let server = nats::start();
    let mut client = stream_at(server.address());
    let sink = sink(server.address(), "");
    sink.give(&[delivery("before")]).await.unwrap();
    client.update_stream(STREAM, json!({ "subjects": [SUBJECTS], "sealed": true }));
    let failure = first_failure(&sink, &[delivery("m")]).await;
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.cause.contains("sealed"), "{}", failure.cause);
}
