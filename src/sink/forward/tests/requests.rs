//! What a destination is sent.

use standardwebhooks::Webhook;

use super::destination::{Act, CANARIES, Destination, KEY, delivery, sink};
use crate::sink::Sink as _;
use crate::sink::conformance::Give as _;

#[tokio::test]
async fn an_event_is_posted_as_json_with_its_id() {
    let destination = Destination::new([]).await;
    let change = delivery("3EB0");
    destination.sink("").give(std::slice::from_ref(&change)).await.unwrap();
    let [request] = destination.requests().try_into().unwrap();
    assert_eq!(request.line, "POST /canary-path?key=canary-query HTTP/1.1");
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(request.headers["user-agent"], concat!("plugchat-receiver/", env!("CARGO_PKG_VERSION")));
    assert_eq!(request.headers["webhook-id"], change.change.facts.event_id());
    assert!(!request.headers.contains_key("webhook-signature"));
    assert!(!request.headers.keys().any(|name| name.as_str().starts_with("ce-")));
    assert_eq!(request.body, serde_json::to_vec(&change.change).unwrap());
}

#[tokio::test]
async fn a_callback_is_posted_as_it_came() {
    let destination = Destination::new([]).await;
    let change = delivery("3EB0");
    destination.sink("body = \"callback\"").give(std::slice::from_ref(&change)).await.unwrap();
    let [request] = destination.requests().try_into().unwrap();
    assert_eq!(request.body, change.change.callback.get().as_bytes());
    assert_eq!(request.headers["webhook-id"], change.change.facts.event_id());
}

#[tokio::test]
async fn the_standards_own_library_accepts_the_signatures_of_every_key() {
    const OLD: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let destination = Destination::new([]).await;
    for body in ["event", "callback"] {
        let sink = destination.sink(&format!("body = \"{body}\"\nsigning_secrets = [\"{KEY}\", \"{OLD}\"]"));
        sink.give(&[delivery("é")]).await.unwrap();
    }
    for request in destination.requests() {
        for key in [KEY, OLD] {
            Webhook::new(key).unwrap().verify(&request.body, &request.headers).unwrap();
        }
        assert!(Webhook::new(OTHER).unwrap().verify(&request.body, &request.headers).is_err());
        assert!(Webhook::new(KEY).unwrap().verify(b"{}", &request.headers).is_err());
    }
}

#[tokio::test]
async fn keys_and_headers_and_the_url_can_come_from_files() {
    let destination = Destination::new([]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let url = file("url", &format!("http://{}/from/file\n", destination.address));
    let keys = file("keys", &format!("{KEY}\n\nwhsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\n"));
    let headers = file("headers", "Authorization: Bearer a:b\nx-other:1\n");
    sink(&format!(
        "url_file = \"{url}\"\nsigning_secret_file = \"{keys}\"\nheaders_file = \"{headers}\"\nheaders = {{ X-Team = \"support\" }}"
    ))
    .give(&[delivery("m")])
    .await
    .unwrap();
    let [request] = destination.requests().try_into().unwrap();
    assert_eq!(request.line, "POST /from/file HTTP/1.1");
    assert_eq!(request.headers["authorization"], "Bearer a:b");
    assert_eq!(request.headers["x-team"], "support");
    assert_eq!(request.headers["x-other"], "1");
    assert_eq!(request.headers["webhook-signature"].to_str().unwrap().split(' ').count(), 2);
    Webhook::new(KEY).unwrap().verify(&request.body, &request.headers).unwrap();
}

#[tokio::test]
async fn cloudevents_attributes_are_headers_encoded_by_the_binding() {
    let destination = Destination::new([]).await;
    let mut change = delivery("a \"b\" 50% é");
    change.change.facts.instance_id = Some("one/two".into());
    let sink = destination.sink("cloudevents = true");
    sink.give(std::slice::from_ref(&change)).await.unwrap();
    change.change.facts.moment = None;
    change.change.facts.instance_id = None;
    sink.give(std::slice::from_ref(&change)).await.unwrap();
    let [first, second] = destination.requests().try_into().unwrap();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", first.headers["webhook-id"].to_str().unwrap()),
        ("ce-source", "/plugchat-receiver/one%252Ftwo"),
        ("ce-type", "message.status"),
        ("ce-time", "2021-09-21T14:30:45Z"),
        ("ce-subject", "a%20%22b%22%2050%25%20%C3%A9"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(first.headers[name], value, "{name}");
    }
    assert_eq!(second.headers["ce-time"], "2026-11-22T12:00:00.123Z");
    assert_eq!(second.headers["ce-source"], "/plugchat-receiver/");
}

#[tokio::test]
async fn a_name_and_password_in_the_url_are_sent_as_credentials() {
    let destination = Destination::new([]).await;
    sink(&format!("url = \"http://me:secret@{}/\"", destination.address)).give(&[delivery("m")]).await.unwrap();
    assert_eq!(destination.requests()[0].headers["authorization"], "Basic bWU6c2VjcmV0");
}

#[tokio::test]
async fn changes_go_one_after_another_over_one_connection() {
    let destination = Destination::new([Act::answer(200, "thanks"), Act::answer(500, "not now")]).await;
    let sink = destination.sink("");
    let changes: Vec<_> = ["a", "b", "c"].into_iter().map(delivery).collect();
    let outcomes = sink.deliver(&changes).await;
    assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    sink.give(&changes[1..]).await.unwrap();
    assert_eq!(destination.message_ids(), ["a", "b", "c", "b", "c"]);
    assert_eq!(destination.connections(), 1);
}

#[tokio::test]
async fn reaching_a_destination_hands_nothing_over() {
    let destination = Destination::new([Act::answer(405, "")]).await;
    let sink = destination.sink("headers = { x-team = \"canary-header\" }");
    let told = sink.reach().await.unwrap();
    assert_eq!(told, format!("{} answers: 405 to a HEAD request", destination.address));
    let told = format!("{} {told}", sink.describe());
    assert!(CANARIES.iter().all(|canary| !told.contains(canary)), "{told}");
    let [request] = destination.requests().try_into().unwrap();
    assert_eq!((request.line.as_str(), request.body.len()), ("HEAD /canary-path?key=canary-query HTTP/1.1", 0));
}
