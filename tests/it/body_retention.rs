//! The texts of callbacks may go before what was read from them.

use serde_json::{Value, json};

use crate::destination::{self as http, Reply};
use crate::inside::{Destination, Inside};
use crate::support::{Home, Receiver, eventually};

/// In a field that nobody knows, and so in a callback's text alone.
const CANARY: &str = "canary-in-the-text-77e1";

const SHORT: &str = "[store.sqlite]\nretention = \"1d\"\nbody_retention = \"1s\"\n";

fn body(ids: &[&str]) -> Value {
    json!({
        "type": "MessageStatusCallback", "status": "READ", "ids": ids, "momment": 1_632_234_645_000_i64, "phoneDevice": 3,
        "phone": "5544999999999", "instanceId": "instance.id", "isGroup": false, "note": CANARY
    })
}

/// The same without what nobody knows.
fn rewritten(id: &str) -> Value {
    let mut body = body(&[id]);
    body.as_object_mut().expect("an object").remove("note");
    body
}

fn changes(answer: &Value) -> Vec<Value> {
    answer["changes"].as_array().expect("a list").clone()
}

/// All but the callback.
fn without_callback(change: &Value) -> Value {
    let mut change = change.clone();
    change["callback"] = Value::Null;
    change
}

fn has_a_text(change: &Value) -> bool {
    change["callback"]["note"] == CANARY
}

/// Whether the store's files have this text in them.
fn files_have(home: &Home, text: &str) -> bool {
    let files = ["store.sqlite3", "store.sqlite3-wal"].map(|name| std::fs::read(home.store().join(name)));
    files.into_iter().flatten().any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

#[test]
fn after_it_what_was_read_remains_and_the_text_is_gone_from_the_files() {
    let receiver = Receiver::start(SHORT);
    assert_eq!(receiver.post(&body(&["A", "B"]).to_string()).status, 200);
    let before = changes(&receiver.admin_get("/api/v1/changes").json());
    let after = eventually("the texts are gone", || {
        let after = changes(&receiver.admin_get("/api/v1/changes").json());
        (!after.iter().any(has_a_text)).then_some(after)
    });
    assert_eq!(
        after.iter().map(without_callback).collect::<Vec<_>>(),
        before.iter().map(without_callback).collect::<Vec<_>>()
    );
    assert_eq!(after.iter().map(|change| &change["callback"]).collect::<Vec<_>>(), [&rewritten("A"), &rewritten("B")]);
    let shown = receiver.admin_get("/api/v1/messages/A").json();
    assert_eq!(shown["recipients"][0]["changes"][0]["callback"], rewritten("A"));
    let again = receiver.post(&body(&["A", "B"]).to_string());
    assert_eq!(again.body, r#"{"stored": 0, "duplicates": 2}"#, "duplicates are known all the same");
    assert!(!files_have(&receiver.stop(), CANARY));
}

#[test]
fn what_has_still_to_be_delivered_keeps_its_text() {
    let destination = Destination::new(|_| None);
    let inside = Inside::start_in(Home::new(SHORT), &destination);
    inside.post(&body(&["A"]).to_string());
    eventually("its text is gone", || {
        (!changes(&inside.get("/api/v1/changes").json()).iter().any(has_a_text)).then_some(())
    });
    inside.run(&["sinks", "pause", "own"]);
    inside.post(&body(&["B", "C"]).to_string());
    // Rejected ones, which nobody waits for, are as young and are looked for as often.
    for _ in 0..2 {
        inside.reject(r#"{"type": "ReceivedCallback"}"#);
        eventually("the rejected one is gone", || {
            inside.get("/api/v1/rejected").json().as_array().is_some_and(Vec::is_empty).then_some(())
        });
    }
    let texts: Vec<_> = changes(&inside.get("/api/v1/changes").json()).iter().map(has_a_text).collect();
    assert_eq!(texts, [false, true, true]);
    inside.run(&["sinks", "resume", "own"]);
    eventually("its text goes when it is delivered", || {
        (!changes(&inside.get("/api/v1/changes").json()).iter().any(has_a_text)).then_some(())
    });
    assert_eq!(destination.messages(), ["A", "B", "C"]);
}

#[test]
fn a_dead_letter_keeps_its_text_and_is_delivered_with_it() {
    let destination = http::Destination::start(|_, times| Reply::Status(if times == 1 { 400 } else { 200 }));
    let receiver = Receiver::start(&format!("{SHORT}{}", destination.sink("crm")));
    assert_eq!(receiver.post(&body(&["A"]).to_string()).status, 200);
    eventually("its text is gone from the log", || {
        (!changes(&receiver.admin_get("/api/v1/changes").json()).iter().any(has_a_text)).then_some(())
    });
    let letters = receiver.admin_get("/api/v1/sinks/crm/dead").json();
    assert!(has_a_text(&letters[0]["change"]), "{letters}");
    assert_eq!(receiver.run(&["dead", "retry", "--sink", "crm"]).1, "retry: 1 of 1 are given again\n");
    let delivered = eventually("it is delivered", || destination.taken().pop());
    assert_eq!(delivered["callback"], body(&["A"]));
    eventually("its text goes now", || {
        (!changes(&receiver.admin_get("/api/v1/changes").json()).iter().any(has_a_text)).then_some(())
    });
}

#[test]
fn a_replay_hands_on_what_remains_in_the_vendor_s_shape() {
    let events = http::Destination::start(|_, _| Reply::Status(200));
    let callbacks = http::Destination::start(|_, _| Reply::Status(200));
    let receiver = Receiver::start(&format!(
        "{SHORT}{}{}body = \"callback\"\n\
         [sinks.events.delivery]\nconcurrency = 1\n[sinks.callbacks.delivery]\nconcurrency = 1\n",
        events.sink("events"),
        callbacks.sink("callbacks"),
    ));
    assert_eq!(receiver.post(&body(&["A", "B"]).to_string()).status, 200);
    eventually("the texts are gone", || {
        (!changes(&receiver.admin_get("/api/v1/changes").json()).iter().any(has_a_text)).then_some(())
    });
    for sink in ["events", "callbacks"] {
        let (code, _, error) = receiver.run(&["replay", "--sink", sink, "--since", "1h", "--rate", "1000"]);
        assert_eq!(code, 0, "{error}");
    }
    let (events, callbacks) = (events.taken(), callbacks.taken());
    assert_eq!((events.len(), callbacks.len()), (4, 4));
    for (first, again) in events.iter().zip(&events[2..]) {
        assert_eq!(without_callback(first), without_callback(again));
        assert_eq!(again["callback"], rewritten(again["message_id"].as_str().expect("text")));
    }
    assert_eq!(callbacks, [body(&["A"]), body(&["B"]), rewritten("A"), rewritten("B")]);
}
