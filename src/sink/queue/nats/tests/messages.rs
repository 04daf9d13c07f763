//! What a consumer of the stream sees.

use super::{STREAM, of_instance, sink, stream_at};
use crate::sink::broker::nats;
use crate::sink::conformance::{Give as _, delivery};
use crate::sink::queue::Broker as _;

#[tokio::test]
async fn a_message_is_the_event_under_its_subject_with_its_id() {
    let server = nats::start();
    let mut client = stream_at(server.address());
    let change = of_instance("m", "3C 9.é");
    sink(server.address(), "").give(std::slice::from_ref(&change)).await.unwrap();
    let [stored] = &client.stored(STREAM)[..] else { panic!("one message") };
    assert_eq!(stored.subject, "whatsapp.status.3C_9__");
    assert_eq!(stored.headers, [("Nats-Msg-Id".to_owned(), change.change.facts.event_id())]);
    assert_eq!(stored.body, serde_json::to_string(&change.change).unwrap());
}

#[tokio::test]
async fn it_may_be_the_callback_as_it_came_and_have_the_headers_of_cloudevents() {
    let server = nats::start();
    let mut client = stream_at(server.address());
    let change = delivery("3EB0 \"é\"\r\nNats-Msg-Id: x");
    let rest = "subject = \"whatsapp.status.{status}\"\nbody = \"callback\"\ncloudevents = true";
    sink(server.address(), rest).give(std::slice::from_ref(&change)).await.unwrap();
    let [stored] = &client.stored(STREAM)[..] else { panic!("one message") };
    assert_eq!(stored.subject, "whatsapp.status.READ");
    assert_eq!(stored.body, change.change.callback.get());
    let id = change.change.facts.event_id();
    let message_id = "3EB0%20%22%C3%A9%22%0D%0ANats-Msg-Id:%20x";
    let expected = [
        ("Nats-Msg-Id", id.as_str()),
        ("ce-datacontenttype", "application/json"),
        ("ce-id", &id),
        ("ce-partitionkey", message_id),
        ("ce-source", "/plugchat-receiver/instance.id"),
        ("ce-specversion", "1.0"),
        ("ce-subject", message_id),
        ("ce-time", "2021-09-21T14:30:45Z"),
        ("ce-type", "message.status"),
    ];
    let mut headers: Vec<_> = stored.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    headers.sort_unstable();
    assert_eq!(headers, expected);
}

#[tokio::test]
async fn a_change_that_is_given_again_is_confirmed_and_there_once() {
    let server = nats::start();
    let mut client = stream_at(server.address());
    let changes = [delivery("a"), delivery("b")];
    for _ in 0..3 {
        sink(server.address(), "").give(&changes).await.unwrap();
    }
    assert_eq!(client.count(STREAM), 2);
}

#[tokio::test]
async fn check_says_which_stream_the_messages_go_to_and_publishes_nothing() {
    let server = nats::start();
    let sink = |rest| sink(server.address(), rest);
    let address = server.address();
    assert_eq!(
        sink("").reach().await.unwrap_err(),
        format!("{address}: there is no stream that takes whatsapp.status.*: make one, or set create_stream")
    );
    assert_eq!(
        sink("create_stream = { name = \"NEW\" }").reach().await.unwrap(),
        format!("{address} answers: the stream NEW is made before the first change")
    );
    let mut client = stream_at(address);
    let answers = format!("{address} answers: whatsapp.status.* goes to the stream WHATSAPP");
    assert_eq!(sink("").reach().await.unwrap(), answers);
    assert_eq!(client.count(STREAM), 0);
    assert!(client.stream("NEW").is_null());
}
