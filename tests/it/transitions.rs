//! What a change does to its message and recipient: forwards, again, late or nothing; never back.

use serde_json::{Value, json};

use crate::support::{Receiver, callback};

const SECOND: i64 = 1000;
const START: i64 = 1_632_234_645_000;

/// Posts them in order for one message; each one's status, transition, previous status and milliseconds since that, from the log.
fn lives(receiver: &Receiver, bodies: &[String]) -> Vec<(String, String, Option<String>, Option<i64>)> {
    for body in bodies {
        assert_eq!(receiver.post(body).json()["stored"], 1, "{body}");
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    receiver
        .changes_on_the_log(bodies.len())
        .iter()
        .map(|line| {
            let [status, transition] = ["status", "transition"].map(|field| text(&line[field]).expect("text"));
            (status, transition, text(&line["previous_status"]), line["since_previous_ms"].as_i64())
        })
        .collect()
}

/// Likewise, for statuses at as many seconds from the start.
fn life(statuses: &[(&str, i64)]) -> Vec<(String, String, Option<String>, Option<i64>)> {
    let receiver = Receiver::start("");
    let bodies: Vec<_> = statuses.iter().map(|(status, at)| callback("A", status, START + at * SECOND)).collect();
    lives(&receiver, &bodies)
}

fn expected(rows: &[(&str, &str, Option<&str>, Option<i64>)]) -> Vec<(String, String, Option<String>, Option<i64>)> {
    rows.iter()
        .map(|(status, transition, previous, since)| {
            ((*status).to_owned(), (*transition).to_owned(), previous.map(str::to_owned), *since)
        })
        .collect()
}

#[test]
fn a_message_advances_step_by_step() {
    assert_eq!(
        life(&[("SENT", 0), ("RECEIVED", 3), ("READ", 10), ("PLAYED", 11)]),
        expected(&[
            ("SENT", "advance", None, None),
            ("RECEIVED", "advance", Some("SENT"), Some(3 * SECOND)),
            ("READ", "advance", Some("RECEIVED"), Some(7 * SECOND)),
            ("PLAYED", "advance", Some("READ"), Some(SECOND)),
        ])
    );
}

#[test]
fn steps_may_be_left_out_and_come_late() {
    assert_eq!(
        life(&[("PLAYED", 20), ("READ", 19), ("SENT", 0), ("RECEIVED", 5), ("SENT", 1), ("PLAYED", 30)]),
        expected(&[
            ("PLAYED", "advance", None, None),
            ("READ", "late", Some("PLAYED"), Some(-SECOND)),
            ("SENT", "late", Some("PLAYED"), Some(-20 * SECOND)),
            ("RECEIVED", "late", Some("PLAYED"), Some(-15 * SECOND)),
            ("SENT", "repeat", Some("PLAYED"), Some(-19 * SECOND)),
            ("PLAYED", "repeat", Some("PLAYED"), Some(10 * SECOND)),
        ])
    );
}

#[test]
fn a_status_without_a_rank_raises_nothing_and_hides_nothing() {
    assert_eq!(
        life(&[("READ_BY_ME", 0), ("ANSWERED", 1), ("SENT", 2), ("READ-SELF", 3), ("ANSWERED", 4), ("RECEIVED", 5)]),
        expected(&[
            ("READ_BY_ME", "unranked", None, None),
            ("ANSWERED", "unranked", None, None),
            ("SENT", "advance", None, None),
            ("READ-SELF", "unranked", Some("SENT"), Some(SECOND)),
            ("ANSWERED", "unranked", Some("SENT"), Some(2 * SECOND)),
            ("RECEIVED", "advance", Some("SENT"), Some(3 * SECOND)),
        ])
    );
}

#[test]
fn the_current_status_is_the_highest_whatever_came_last() {
    let receiver = Receiver::start("");
    for (status, at) in [("READ", 5), ("RECEIVED", 9), ("READ_BY_ME", 11), ("SENT", 1), ("DELETED", 20)] {
        receiver.post(&callback("A", status, START + at * SECOND));
    }
    let message = receiver.admin_get("/api/v1/messages/A").json();
    assert_eq!(message["recipients"].as_array().map(Vec::len), Some(1));
    assert_eq!(message["recipients"][0]["status"], "READ");
    assert_eq!(message["recipients"][0]["changes"].as_array().map(Vec::len), Some(5));

    receiver.post(&callback("B", "READ_BY_ME", START));
    let own = receiver.admin_get("/api/v1/messages/B").json();
    assert_eq!(own["recipients"][0]["status"], Value::Null, "an own reading is no delivery");
}

/// What somebody in a group did.
fn in_group(message_id: &str, participant: &str, status: &str, momment: i64) -> String {
    json!({
        "instanceId": "instance.id", "status": status, "ids": [message_id], "momment": momment,
        "participant": participant, "participantDevice": 0, "phone": "120363835109990214-group",
        "type": "MessageStatusCallback", "isGroup": true
    })
    .to_string()
}

#[test]
fn each_participant_of_a_group_has_a_status_of_its_own() {
    let receiver = Receiver::start("");
    let bodies = [
        in_group("A", "551194333722", "READ", START),
        in_group("A", "551143095355", "RECEIVED", START),
        in_group("A", "551194333722", "RECEIVED", START),
        in_group("A", "551143095355", "READ", START + SECOND),
        in_group("B", "551194333722", "RECEIVED", START),
    ];
    assert_eq!(
        lives(&receiver, &bodies),
        expected(&[
            ("READ", "advance", None, None),
            ("RECEIVED", "advance", None, None),
            ("RECEIVED", "late", Some("READ"), Some(0)),
            ("READ", "advance", Some("RECEIVED"), Some(SECOND)),
            ("RECEIVED", "advance", None, None),
        ])
    );
    let message = receiver.admin_get("/api/v1/messages/A").json();
    let mut recipients: Vec<_> = message["recipients"].as_array().expect("a list").iter().collect();
    recipients.sort_by_key(|recipient| recipient["recipient"].to_string());
    let seen: Vec<_> = recipients.iter().map(|recipient| (&recipient["recipient"], &recipient["status"])).collect();
    assert_eq!(seen, [(&json!("551143095355"), &json!("READ")), (&json!("551194333722"), &json!("READ"))]);
}

/// The usual callback with one field replaced.
fn with(field: &str, value: impl Into<Value>) -> String {
    let mut callback: Value = serde_json::from_str(&callback("A", "READ", START)).expect("JSON");
    callback[field] = value.into();
    callback.to_string()
}

#[test]
fn only_what_is_equal_in_every_fact_is_a_duplicate() {
    let receiver = Receiver::start("");
    let once = with("isGroup", false);
    let others = [
        with("momment", START + 1),
        with("phoneDevice", 19),
        with("participantDevice", 5),
        with("instanceId", "other"),
        with("phone", "5544999999998"),
        with("participant", "5544999999999"),
        with("participant", "551194333722"),
        with("status", "ANSWERED"),
        with("ids", vec!["B"]),
    ];
    let all: Vec<&String> = std::iter::once(&once).chain(&others).collect();
    for body in &all {
        assert_eq!(receiver.post(body).body, r#"{"stored": 1, "duplicates": 0}"#, "{body}");
    }
    for body in &all {
        assert_eq!(receiver.post(body).body, r#"{"stored": 0, "duplicates": 1}"#, "{body}");
    }
    // What says nothing of which event it is makes no difference.
    for body in [with("isGroup", true), with("unknown", "field")] {
        assert_eq!(receiver.post(&body).body, r#"{"stored": 0, "duplicates": 1}"#, "{body}");
    }
    let stored = receiver.stored();
    let ids: std::collections::BTreeSet<_> = stored.iter().map(|change| change["id"].to_string()).collect();
    assert_eq!((stored.len(), ids.len()), (all.len(), all.len()), "each has an id of its own");
}

#[test]
fn another_moment_or_device_is_a_repeat_and_an_event_of_its_own() {
    let receiver = Receiver::start("");
    receiver.post(&with("phoneDevice", 0));
    receiver.post(&with("phoneDevice", 19));
    receiver.post(&with("momment", START + SECOND));
    let transitions: Vec<_> =
        receiver.changes_on_the_log(3).iter().map(|line| line["transition"].to_string()).collect();
    assert_eq!(transitions, [r#""advance""#, r#""repeat""#, r#""repeat""#]);
}

#[test]
fn a_duplicate_is_known_after_a_restart() {
    let receiver = Receiver::start("");
    receiver.post(&callback("A", "READ", START));
    let receiver = receiver.stop().start();
    assert_eq!(receiver.post(&callback("A", "READ", START)).body, r#"{"stored": 0, "duplicates": 1}"#);
    receiver.post(&callback("A", "RECEIVED", START));
    assert_eq!(receiver.stored().pop().expect("stored")["transition"], "late");
}

#[test]
fn an_event_has_the_same_id_on_another_machine() {
    let bodies = [
        callback("A", "SENT", START),
        callback("A", "READ", START),
        in_group("A", "551194333722", "READ", START),
        r#"{"type":"MessageStatusCallback","status":"READ","ids":["A"]}"#.to_owned(),
    ];
    let ids = |order: &mut dyn Iterator<Item = &String>| {
        let receiver = Receiver::start("");
        for body in order {
            receiver.post(body);
        }
        let ids: std::collections::BTreeSet<_> =
            receiver.stored().iter().map(|change| change["id"].to_string()).collect();
        ids
    };
    let one = ids(&mut bodies.iter());
    assert_eq!(one.len(), bodies.len());
    assert_eq!(one, ids(&mut bodies.iter().rev()), "whatever came before it");
}
