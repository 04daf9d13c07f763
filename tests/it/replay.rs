//! A replay hands stored changes to a sink again.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::inside::{Destination, Inside};
use crate::support::{Receiver, callback, eventually, signal};

const START: i64 = 1_632_234_645_000;

const REPLAY: &str = "/api/v1/sinks/own/replay";

/// A receiver whose destination has taken this many changes, M0 and so on.
fn with_delivered(count: usize) -> (Destination, Inside) {
    let destination = Destination::new(|_| None);
    let inside = Inside::start(&destination);
    for number in 0..count {
        inside.post(&callback(&format!("M{number}"), "READ", START));
    }
    eventually("all are delivered", || (inside.standing()["lag"] == 0).then_some(()));
    assert_eq!(destination.taken().len(), count);
    (destination, inside)
}

/// When the change of this message was received.
fn received(inside: &Inside, number: usize) -> String {
    let changes = inside.get(&format!("/api/v1/changes?limit=1&after={number}")).json();
    changes["changes"][0]["received_at"].as_str().expect("text").to_owned()
}

/// What the destination took after the first `count`, when the replay is over.
fn replayed(destination: &Destination, inside: &Inside, count: usize) -> Vec<(String, String)> {
    eventually("the replay is over", || inside.standing()["replay"].is_null().then_some(()));
    destination.taken().split_off(count)
}

#[test]
fn a_replay_gives_the_changes_of_its_time_again_with_the_same_ids() {
    let (destination, inside) = with_delivered(5);
    let before = destination.taken();
    // A millisecond may have more than one.
    let (since, until) = (received(&inside, 1), received(&inside, 4));
    let times: Vec<_> = (0..5).map(|number| received(&inside, number)).collect();
    let expected: Vec<_> =
        (0..5).filter(|n| times[*n] >= since && times[*n] < until).map(|n| before[n].clone()).collect();

    let order = json!({ "since": since, "until": until, "rate": 1000, "dry_run": true });
    let answer = inside.order(REPLAY, &order.to_string()).json();
    assert_eq!((&answer["changes"], &answer["started"]), (&json!(expected.len()), &json!(false)));
    assert_eq!(destination.taken().len(), 5);

    let arguments = ["replay", "--sink", "own", "--since", &since, "--until", &until, "--rate", "1000"];
    let (code, text, error) = inside.run(&arguments);
    assert_eq!((code, error.as_str()), (0, ""));
    let count = expected.len();
    assert_eq!(
        text,
        format!(
            "replaying {count} changes, less what the filter of own keeps out\ndone: {count} changes were given to own\n"
        )
    );
    assert_eq!(replayed(&destination, &inside, 5), expected);

    let (code, text, _) = inside.run(&["replay", "--sink", "own", "--since", "1h", "--rate", "1000", "--json"]);
    let ended: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, &ended["how"], &ended["delivered"]), (0, &json!("done"), &json!(5)));
    assert_eq!(replayed(&destination, &inside, 5 + count), before);
}

#[test]
fn a_replay_of_nothing_does_not_begin() {
    let (destination, inside) = with_delivered(2);
    for arguments in [
        ["--since", "1h", "--dry-run"].as_slice(),
        &["--since", "2h", "--until", "1h"],
        &["--since", "2199-01-01T00:00:00Z"],
    ] {
        let (code, text, _) = inside.run(&[&["replay", "--sink", "own"], arguments].concat());
        assert_eq!(code, 0);
        let expected = if arguments.contains(&"--dry-run") { "would replay 2 " } else { "nothing is replayed: 0 " };
        assert!(text.starts_with(expected), "{text}");
    }
    assert_eq!(inside.standing()["last_replay"], Value::Null);
    assert_eq!(destination.taken().len(), 2);
}

#[test]
fn a_replay_that_makes_no_sense_is_refused() {
    let (_, inside) = with_delivered(1);
    for wrong in [
        json!({}),
        json!({ "since": "yesterday" }),
        json!({ "since": "2021-09-21T14:30:45Z", "until": "2021-09-21T14:30:45Z" }),
        json!({ "since": "2021-09-21T14:30:45Z", "rate": 0 }),
        json!({ "since": "2021-09-21T14:30:45Z", "rate": 1e9 }),
        json!({ "since": "2021-09-21T14:30:45Z", "unknown": 1 }),
    ] {
        inside.order(REPLAY, &wrong.to_string()).problem(400);
    }
    inside.order(&format!("{REPLAY}?since=2021-09-21T14:30:45Z&rate=NaN"), "").problem(400);
    for wrong in [["--since", "yesterday"].as_slice(), &[], &["--since", "1h", "--rate", "fast"]] {
        assert_eq!(inside.run(&[&["replay", "--sink", "own"], wrong].concat()).0, 2, "{wrong:?}");
    }
}

#[test]
fn one_replay_of_a_sink_goes_on_at_a_time_at_its_rate_until_it_is_cancelled() {
    let (destination, inside) = with_delivered(50);
    let order = json!({ "since": "2021-09-21T14:30:45Z", "rate": 0.1 }).to_string();
    assert_eq!(inside.order(REPLAY, &order).json()["started"], true);
    inside.order(REPLAY, &order).problem(409);
    let first = eventually("the first is given", || destination.taken().get(50).cloned());
    assert_eq!(first.1, "M0");
    // Fresh ones pass it, and a restart doesn't end it.
    inside.post(&callback("fresh", "READ", START));
    eventually("the fresh one is delivered", || (destination.messages()[50..] == ["M0", "fresh"]).then_some(()));
    let (_, table, _) = inside.run(&["sinks"]);
    assert!(table.contains("delivering, replaying"), "{table}");
    let inside = Inside::start_in(inside.stop(), &destination);
    eventually("the replay goes on", || (inside.standing()["replay"]["delivered"] == 2).then_some(()));
    assert_eq!(destination.messages()[52], "M1");
    let cancelled = inside.order(&format!("{REPLAY}/cancel"), "").json();
    assert_eq!((&cancelled["replay"], &cancelled["last_replay"]["how"]), (&Value::Null, &json!("cancelled")));
    let inside = Inside::start_in(inside.stop(), &destination);
    assert_eq!(inside.standing()["replay"], Value::Null, "after a restart, too");
    assert_eq!(inside.order(&format!("{REPLAY}/cancel"), "").status, 200, "nothing to cancel is no error");
}

#[test]
fn the_command_that_follows_a_replay_cancels_it_when_it_is_interrupted() {
    let (_, inside) = with_delivered(50);
    let mut command = inside.command(&["replay", "--sink", "own", "--since", "1h", "--rate", "0.1"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
    eventually("the first is given", || (inside.standing()["replay"]["delivered"] == 1).then_some(()));
    signal(child.id(), "INT");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("cancelled: 1 changes were given to own"), "{text}");
    assert_eq!(inside.standing()["replay"], Value::Null);
}

#[test]
fn a_replay_of_a_paused_sink_waits_and_says_so() {
    let (destination, inside) = with_delivered(3);
    inside.order("/api/v1/sinks/own/pause", "");
    inside.post(&callback("later", "READ", START));
    let arguments = ["replay", "--sink", "own", "--since", "1h", "--rate", "1000"];
    let mut command = inside.command(&arguments);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let replay = eventually("the replay waits", || Some(inside.standing()["replay"].clone()).filter(Value::is_object));
    assert_eq!((&replay["delivered"], &replay["until"]), (&json!(0), &json!(3)), "what is undelivered comes anyway");
    inside.order("/api/v1/sinks/own/resume", "");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    let mut again = replayed(&destination, &inside, 3);
    again.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(again.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>(), ["M0", "M1", "M2", "later"]);
}

#[test]
fn a_replay_of_what_the_filter_keeps_out_ends_without_giving_anything() {
    let receiver = Receiver::start("[sinks.audit.log]\n[sinks.audit.filter]\nstatus = [\"PLAYED\"]\n");
    let ids: Vec<_> = (0..1000).map(|number| format!("M{number}")).collect();
    let body = json!({ "type": "MessageStatusCallback", "status": "READ", "ids": ids });
    for phone in ["1", "2"] {
        let mut body = body.clone();
        body["phone"] = json!(phone);
        assert_eq!(receiver.post(&body.to_string()).status, 200);
    }
    eventually("they are passed over", || (receiver.admin_get("/api/v1/sinks").json()[0]["lag"] == 0).then_some(()));
    let (code, text, _) = receiver.run(&["replay", "--sink", "audit", "--since", "1h"]);
    assert_eq!(code, 0);
    assert_eq!(
        text,
        "replaying 2000 changes, less what the filter of audit keeps out\ndone: 0 changes were given to audit\n"
    );
}
