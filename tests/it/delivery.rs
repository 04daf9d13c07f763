//! Status changes reach a destination over HTTP in spite of everything, each message's in order.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use serde_json::Value;

use crate::destination::{Destination, Reply};
use crate::support::{Home, Receiver, callback, wait_until};

/// Pauses short enough for a test.
pub(crate) const QUICK: &str =
    "[sinks.crm.delivery]\nbackoff = { min = \"5ms\", max = \"50ms\" }\nstart = \"beginning\"\n";

pub(crate) const STATUSES: [&str; 4] = ["SENT", "RECEIVED", "READ", "PLAYED"];

fn text<'a>(event: &'a Value, key: &str) -> &'a str {
    event[key].as_str().expect("a text")
}

/// Each message's statuses as they were first taken.
pub(crate) fn first_taken(events: &[Value]) -> BTreeMap<String, Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut messages: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events {
        if seen.insert(text(event, "id").to_owned()) {
            let statuses = messages.entry(text(event, "message_id").to_owned()).or_default();
            statuses.push(text(event, "status").to_owned());
        }
    }
    messages
}

pub(crate) fn post_lifecycles(receiver: &Receiver, messages: std::ops::Range<usize>) {
    for status in STATUSES {
        for message in messages.clone() {
            let answer = receiver.post(&callback(&format!("message-{message}"), status, 1_632_234_645_000));
            assert_eq!(answer.status, 200);
        }
    }
}

#[test]
fn a_destination_that_fails_now_and_then_gets_every_change_once_and_in_order() {
    // A third of the first attempts and a fifth of the second ones fail, in each of the ways that are tried again.
    let destination = Destination::start(|event, attempt| {
        let id = u32::from_str_radix(&text(event, "id")[..4], 16).expect("hexadecimal");
        match (attempt, id % 15) {
            (1, 0..2) => Reply::Status(500),
            (1, 2..4) => Reply::Status(408),
            (1, 4) => Reply::Slow(503, Duration::from_millis(2)),
            (2, 0..3) => Reply::Status(502),
            _ => Reply::Status(204),
        }
    });
    let receiver = Receiver::start(&format!("{}{QUICK}", destination.sink("crm")));
    post_lifecycles(&receiver, 0..40);
    wait_until("everything is taken", || destination.taken().len() >= 160);
    let taken = destination.taken();
    assert_eq!(taken.len(), 160, "nothing is delivered twice");
    let messages = first_taken(&taken);
    assert_eq!(messages.len(), 40);
    for statuses in messages.values() {
        assert_eq!(statuses, &STATUSES);
    }
    receiver.stop();
}

#[test]
fn what_is_refused_is_a_dead_letter_and_holds_up_nothing() {
    let destination = Destination::start(|event, _| match text(event, "status") {
        "RECEIVED" => Reply::Status(422),
        _ => Reply::Status(200),
    });
    let receiver = Receiver::start(&format!("{}{QUICK}", destination.sink("crm")));
    post_lifecycles(&receiver, 0..3);
    wait_until("the others are taken", || destination.taken().len() == 9);
    let sink = |key: &str| receiver.admin_get("/api/v1/sinks").json()[0][key].clone();
    wait_until("the dead are counted", || sink("dead") == 3);
    assert_eq!(destination.came(), 12, "what was refused is not tried again");
    receiver.wait_for_line("a change is dead", |line| line["reason"] == "refused" && line["sink"] == "crm");
    receiver.stop();
}

#[test]
fn while_a_destination_is_down_or_hangs_nobody_else_notices_and_it_gets_all_when_it_is_back() {
    let destination = Destination::start(|_, _| Reply::Hang);
    let sinks = format!("{}timeout = \"100ms\"\n{QUICK}[sinks.audit.log]\n", destination.sink("crm"));
    let receiver = Receiver::start(&sinks);
    // While it hangs, callbacks are answered and the other sink gets them.
    post_lifecycles(&receiver, 0..25);
    assert_eq!(receiver.changes_on_the_log(100).len(), 100);
    let sink = || receiver.admin_get("/api/v1/sinks").json()[1].clone();
    wait_until("it is known to be away", || sink()["state"] == "away");
    assert_eq!(receiver.admin_get("/readyz").status, 200);

    // Then it is down.
    let address = destination.address;
    drop(destination);
    post_lifecycles(&receiver, 25..50);
    assert_eq!(receiver.changes_on_the_log(100).len(), 100);
    let failed = sink()["failed"].as_u64().expect("a number");
    wait_until("it was tried again", || sink()["failed"].as_u64().expect("a number") > failed + 2);

    let destination = Destination::start_at(address, |_, _| Reply::Status(200));
    wait_until("everything is taken", || first_taken(&destination.taken()).len() == 50);
    wait_until("it is back", || sink()["state"] == "delivering" && sink()["lag"] == 0);
    for statuses in first_taken(&destination.taken()).values() {
        assert_eq!(statuses, &STATUSES);
    }
    let output = receiver.output();
    let said = |what: &str| output.matches(what).count();
    let (went, came) = (said("the destination is away"), said("the destination is back"));
    // On a busy machine it may have been too slow more than once. While it was away, it was tried more often than that.
    assert!(went >= 1 && went == came, "said each time that it goes and that it is back:\n{output}");
    let failed = sink()["failed"].as_u64().expect("a number");
    assert!(failed > 2 * went as u64, "and not at each attempt: {failed} failed\n{output}");
    receiver.stop();
}

#[test]
fn a_destination_that_is_gone_pauses_its_sink_also_over_a_restart() {
    let destination = Destination::start(|_, _| Reply::Status(410));
    let receiver = Receiver::start(&format!("{}{QUICK}", destination.sink("crm")));
    receiver.post(&callback("message", "SENT", 1_632_234_645_000));
    receiver.wait_for_line("it is gone", |line| line["level"] == "ERROR" && line["sink"] == "crm");
    let state = |receiver: &Receiver| receiver.admin_get("/api/v1/sinks").json()[0]["state"].clone();
    wait_until("it is paused", || state(&receiver) == "paused");
    let receiver = receiver.stop().start();
    wait_until("it is still paused", || state(&receiver) == "paused");
    assert_eq!(destination.came(), 1);
    receiver.stop();
}

#[test]
fn what_was_stored_reaches_the_destination_however_often_the_receiver_is_killed() {
    const KILLS: usize = 20;
    let destination = Destination::start(|event, attempt| {
        let id = u32::from_str_radix(&text(event, "id")[..4], 16).expect("hexadecimal");
        match (attempt, id % 8) {
            (1, 0) => Reply::Status(500),
            (_, 1) => Reply::Slow(200, Duration::from_millis(3)),
            _ => Reply::Status(200),
        }
    });
    let mut home = Home::new(&format!("{}{QUICK}", destination.sink("crm")));
    for kill in 0..KILLS {
        let receiver = home.start();
        let before = destination.came();
        post_lifecycles(&receiver, kill * 8..kill * 8 + 8);
        // It is killed in the middle of delivery, each time after another number of requests.
        let random = usize::try_from(RandomState::new().hash_one(kill) % 30).expect("small");
        wait_until("deliveries are under way", || destination.came() > before + random);
        home = receiver.kill();
    }
    let receiver = home.start();
    let stored: BTreeSet<String> = receiver.stored().iter().map(|change| text(change, "id").to_owned()).collect();
    assert_eq!(stored.len(), KILLS * 8 * STATUSES.len(), "everything was answered 200");
    let ids = |events: &[Value]| events.iter().map(|event| text(event, "id").to_owned()).collect::<BTreeSet<_>>();
    wait_until("everything is taken", || ids(&destination.taken()).len() >= stored.len());
    assert_eq!(ids(&destination.taken()), stored, "no id that it should not have");
    for (message, statuses) in first_taken(&destination.taken()) {
        assert_eq!(statuses, STATUSES, "{message}");
    }
    receiver.stop();
}
