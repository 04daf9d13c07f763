//! Somebody asks to be erased.

use plugchat_receiver::sink::FailureKind;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Value, json};

use crate::inside::{Destination, Inside};
use crate::support::{Home, Receiver, STORED, eventually};

/// Who is erased, as people know them.
const PERSON: &str = "+55 (44) 98765-1234";

/// Their number with the ninth digit, and as WhatsApp may know it.
const PHONE: &str = "5544987651234";
const SHORT_PHONE: &str = "554487651234";

/// Somebody else.
const OTHER: &str = "5544911112222";

const GROUP: &str = "120363835109990214-group";

fn body(message_id: &str, phone: &str) -> Value {
    json!({
        "type": "MessageStatusCallback", "status": "READ", "ids": [message_id], "momment": 1_632_234_645_000_i64,
        "phone": phone, "instanceId": "instance.id"
    })
}

fn with(mut body: Value, key: &str, value: &Value) -> Value {
    body[key] = value.clone();
    body
}

/// Callbacks in which the person occurs in every way.
fn of_the_person() -> Vec<Value> {
    vec![
        body("direct", PHONE),
        body("twin", &format!("{SHORT_PHONE}@c.us")),
        with(body("group", GROUP), "participant", &json!(PHONE)),
        with(body("story", "status@broadcast"), "participant", &json!(PHONE)),
        with(body("elder-group", &format!("{PHONE}-1600000000@g.us")), "participant", &json!(OTHER)),
        body("device", &format!("{PHONE}:12@s.whatsapp.net")),
        body(&format!("false_{PHONE}@c.us_3EB0C431C26A1916E07E"), OTHER),
        with(body("unknown-field", OTHER), "contact", &json!({ "name": [PERSON] })),
        with(body("status", OTHER), "status", &json!(format!("BLOCKED BY {PHONE}"))),
        with(body("", PHONE), "ids", &json!(["many-1", "many-2", "many-3"])),
        body("refused", PHONE),
        body("again", PHONE),
    ]
}

/// Those of others, some of the same messages.
fn of_others() -> Vec<Value> {
    vec![
        body("kept", OTHER),
        with(body("group", GROUP), "participant", &json!(OTHER)),
        body("direct", OTHER),
        body("refused-kept", OTHER),
        body("again-kept", OTHER),
        body("longer", &format!("{PHONE}0")),
    ]
}

/// Bodies that are no callback, with the person in any place.
fn rejected_of_the_person() -> [String; 5] {
    [
        json!({ "type": "ReceivedCallback", "phone": PHONE }).to_string(),
        json!({ "attendance": { "contacts": [1, { "number": PERSON }] } }).to_string(),
        json!({ "type": "MessageStatusCallback", "status": "READ", "ids": ["x"], "phone": 5_544_987_651_234_i64 })
            .to_string(),
        json!({ "type": "X", PHONE: true }).to_string(),
        r#"{"type": "X", "phone": "55449\u003876\u0035\u00312\u0033\u0034"}"#.to_owned(),
    ]
}

/// One of which some messages are refused, and some to be tried again.
fn destination() -> Destination {
    Destination::new(|id| match id {
        id if id.starts_with("refused") => Some(FailureKind::Refused),
        id if id.starts_with("again") => {
            Some(FailureKind::TryAgain { after: Some(std::time::Duration::from_secs(300)) })
        }
        _ => None,
    })
}

/// Everything that is in the database's tables, as text.
fn tables(home: &Home) -> String {
    let database = Connection::open(home.store().join("store.sqlite3")).expect("the store is there");
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table'";
    let mut names = database.prepare(names).expect("it can be read");
    let names = names.query_map([], |row| row.get(0)).expect("it can be read");
    let names: Vec<String> = names.collect::<Result<_, _>>().expect("it can be read");
    let mut text = String::new();
    for name in names {
        let mut rows = database.prepare(&format!("SELECT * FROM {name}")).expect("it can be read");
        let columns = rows.column_count();
        let mut rows = rows.query([]).expect("it can be read");
        while let Some(row) = rows.next().expect("it can be read") {
            for column in 0..columns {
                match row.get_ref(column).expect("it is there") {
                    ValueRef::Text(bytes) | ValueRef::Blob(bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
                    other => text.push_str(&format!("{other:?}")),
                }
                text.push('\n');
            }
        }
    }
    text
}

/// How often a text stands in the store's files, in use or not.
fn times_in_files(home: &Home, text: &str) -> usize {
    let files = std::fs::read_dir(home.store()).expect("the store is there");
    let files = files.map(|file| std::fs::read(file.expect("it can be listed").path()).expect("it can be read"));
    files.map(|bytes| String::from_utf8_lossy(&bytes).matches(text).count()).sum()
}

fn assert_intact(home: &Home) {
    let database = Connection::open(home.store().join("store.sqlite3")).expect("it can be opened");
    let verdict: String =
        database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it can be checked");
    assert_eq!(verdict, "ok");
}

fn messages(changes: &Value) -> Vec<&str> {
    let changes = changes["changes"].as_array().expect("a list");
    changes.iter().map(|change| change["message_id"].as_str().expect("text")).collect()
}

fn erase(inside: &Inside, arguments: &[&str]) -> Value {
    let (code, text, error) = inside.run(&[&["erase", "--json", "--phone", PERSON], arguments].concat());
    assert_eq!(code, 0, "{error}");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn everything_that_has_the_number_in_it_goes_and_nothing_else() {
    let destination = destination();
    let inside = Inside::start(&destination);
    for body in of_the_person().iter().chain(&of_others()) {
        inside.post(&body.to_string());
    }
    for body in rejected_of_the_person() {
        inside.reject(&body);
    }
    inside.reject(&json!({ "type": "ReceivedCallback", "phone": OTHER }).to_string());
    eventually("all are delivered, deferred or dead", || {
        let standing = inside.standing();
        (standing["lag"] == 0 && standing["deferred"] == 2 && standing["dead"] == 2).then_some(())
    });

    let mut expected = json!({
        "changes": 14, "messages": 14, "deferred": 1, "dead_letters": 1, "rejected": 5, "instances": 0, "dry_run": true, "sinks": ["own"]
    });
    let before = tables(inside.home());
    assert_eq!(erase(&inside, &["--dry-run"]), expected);
    assert_eq!(tables(inside.home()), before);
    expected["dry_run"] = json!(false);
    assert_eq!(erase(&inside, &[]), expected);

    let after = tables(inside.home());
    assert!(after.contains(OTHER) && after.contains(&format!("{PHONE}0")), "{after}");
    // Of the number that is longer by a digit its beginning stays.
    for text in [SHORT_PHONE, PERSON, "98765-1234", "\\u003876", "many-", "unknown-field", "elder-group"] {
        assert!(!after.contains(text), "{text}: {after}");
    }
    assert_eq!(after.matches(PHONE).count(), after.matches(&format!("{PHONE}0")).count(), "{after}");
    let stored = inside.get("/api/v1/changes").json();
    assert_eq!(messages(&stored), ["kept", "group", "direct", "refused-kept", "again-kept", "longer"]);
    let standing = inside.standing();
    assert_eq!((&standing["deferred"], &standing["dead"], &standing["lag"]), (&json!(1), &json!(1), &json!(0)));
    assert_eq!(inside.get("/api/v1/sinks/own/dead").json()[0]["change"]["message_id"], "refused-kept");
    assert_eq!(inside.get("/api/v1/rejected").json().as_array().map(Vec::len), Some(1));
    inside.get("/api/v1/messages/twin").problem(404);

    let nothing = json!({
        "changes": 0, "messages": 0, "deferred": 0, "dead_letters": 0, "rejected": 0, "instances": 0, "dry_run": false, "sinks": ["own"]
    });
    assert_eq!(erase(&inside, &[]), nothing);

    let given = destination.messages();
    destination.now(|_| None);
    let inside = Inside::start_in(inside.stop(), &destination);
    inside.run(&["dead", "retry", "--sink", "own"]);
    eventually("what is left is given", || {
        let (standing, messages) = (inside.standing(), destination.messages());
        (standing["dead"] == 0 && messages.contains(&"refused-kept".into())).then_some(())
    });
    assert_eq!(destination.messages()[given.len()..], ["refused-kept"], "the other one waits");
}

#[test]
fn what_comes_again_afterwards_counts_as_new() {
    let receiver = Receiver::start("");
    let bodies = [body("direct", PHONE), with(body("mention", OTHER), "note", &json!(PERSON)), body("kept", OTHER)];
    for body in &bodies {
        assert_eq!(receiver.post(&body.to_string()).body, STORED);
    }
    let (code, _, _) = receiver.run(&["erase", "--phone", PERSON]);
    assert_eq!(code, 0);
    let answers: Vec<_> = bodies.iter().map(|body| receiver.post(&body.to_string()).body).collect();
    assert_eq!(answers, [STORED, STORED, r#"{"stored": 0, "duplicates": 1}"#]);
    let stored = receiver.admin_get("/api/v1/changes").json();
    assert_eq!(stored["changes"][1]["transition"], "advance");
}

#[test]
fn no_number_is_given_twice_when_the_newest_change_was_erased() {
    let receiver = Receiver::start("");
    receiver.post(&body("kept", OTHER).to_string());
    receiver.post(&body("direct", PHONE).to_string());
    receiver.run(&["erase", "--phone", PERSON]);
    let receiver = receiver.stop().start();
    receiver.post(&body("new", OTHER).to_string());
    let stored = receiver.admin_get("/api/v1/changes").json();
    let seqs: Vec<_> =
        stored["changes"].as_array().expect("a list").iter().map(|change| change["seq"].clone()).collect();
    assert_eq!(seqs, [1, 3]);
}

#[test]
fn what_a_sink_has_still_to_be_given_is_not_given() {
    let hour = std::time::Duration::from_secs(3600);
    let destination = Destination::new(move |_| Some(FailureKind::Away { after: Some(hour) }));
    let inside = Inside::start(&destination);
    for (id, phone) in [("A", OTHER), ("B", PHONE), ("C", OTHER), ("D", PHONE)] {
        inside.post(&body(id, phone).to_string());
    }
    eventually("it is away", || (inside.standing()["state"] == "away").then_some(()));
    assert_eq!(erase(&inside, &[])["changes"], 2);
    destination.now(|_| None);
    inside.order("/api/v1/sinks/own/resume", "");
    eventually("all is delivered", || (inside.standing()["lag"] == 0).then_some(()));
    let mut given = destination.messages();
    given.sort();
    assert_eq!(given, ["A", "C"]);
}

/// A message id that differs from the last one in all digits, as WhatsApp's do.
fn scattered(number: u64) -> String {
    format!("3EB0{:016X}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[test]
fn its_bytes_are_gone_from_the_files_while_the_receiver_runs() {
    let receiver = Receiver::start("[sinks]\n");
    // Of a table with random keys pages are split again and again, and rows copied from one to the other.
    for round in 0..40_u64 {
        let phone = if round % 2 == 0 { PHONE } else { OTHER };
        let ids: Vec<_> = (0..1000).map(|n| scattered((round / 2 * 1000 + n) * 2 + round % 2)).collect();
        for status in ["SENT", "READ"] {
            let body = with(with(body("", phone), "ids", &json!(ids)), "status", &json!(status));
            assert_eq!(receiver.post(&body.to_string()).status, 200);
        }
    }
    receiver.post(&json!({ "type": "X", "phone": PHONE }).to_string());
    assert!(times_in_files(receiver.home(), PHONE) > 20_000);
    let (code, text, _) = receiver.run(&["erase", "--phone", PERSON]);
    assert_eq!((code, text.contains("40000  status changes")), (0, true), "{text}");
    assert_eq!((times_in_files(receiver.home(), PHONE), times_in_files(receiver.home(), SHORT_PHONE)), (0, 0));

    assert!(times_in_files(receiver.home(), OTHER) >= 60_000);
    assert_eq!(receiver.post(&body("after", OTHER).to_string()).body, STORED);
    assert_intact(&receiver.stop());
}

#[test]
fn what_was_deleted_without_being_overwritten_is_overwritten_too() {
    let receiver = Receiver::start("[sinks]\n");
    let long = json!(format!("{PHONE} ").repeat(2000));
    for number in 0..20 {
        let body = with(body(&format!("m{number}"), PHONE), "note", &long);
        assert_eq!(receiver.post(&body.to_string()).status, 200);
    }
    let home = receiver.stop();
    // As any tool does that was not told otherwise.
    let database = Connection::open(home.store().join("store.sqlite3")).expect("it can be opened");
    database
        .execute_batch("PRAGMA secure_delete = OFF; DELETE FROM change; DELETE FROM message")
        .expect("it can be written");
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("it can be written");
    let free: i64 = database.query_row("PRAGMA freelist_count", [], |row| row.get(0)).expect("it can be asked");
    drop(database);
    assert!(free > 100 && times_in_files(&home, PHONE) > 20_000, "{free} {}", times_in_files(&home, PHONE));
    let receiver = home.start();
    let (code, _, error) = receiver.run(&["erase", "--phone", PERSON]);
    assert_eq!((code, times_in_files(receiver.home(), PHONE)), (0, 0), "{error}");
    assert_eq!(receiver.post(&with(body("after", OTHER), "note", &long).to_string()).body, STORED);
    assert_intact(&receiver.stop());
}

#[test]
fn a_reader_that_keeps_traces_in_the_log_is_told_of() {
    let receiver = Receiver::start("");
    receiver.post(&body("direct", PHONE).to_string());
    let reader = Connection::open(receiver.home().store().join("store.sqlite3")).expect("it can be opened");
    reader.execute_batch("BEGIN; SELECT * FROM change").expect("it can be read");
    let (code, text, error) = receiver.run(&["erase", "--phone", PERSON]);
    assert_eq!((code, text.as_str()), (1, ""));
    assert!(error.contains("erase it again when that has ended"), "{error}");
    reader.execute_batch("COMMIT").expect("it ends");
    let (code, text, _) = receiver.run(&["erase", "--phone", PERSON]);
    assert_eq!((code, text.contains("        0  status changes")), (0, true), "{text}");
    assert_eq!(times_in_files(receiver.home(), PHONE), 0);
}

#[test]
fn it_says_what_it_did_and_what_it_does_not_reach_and_no_number() {
    let receiver = Receiver::start("[sinks.audit.log]\n[sinks.crm.log]\n");
    receiver.post(&body("direct", PHONE).to_string());
    let (code, text, remark) = receiver.run(&["erase", "--phone", "0055 44 8765-1234", "--dry-run"]);
    let expected = "there is of 5544****1234:\n        1  status changes\n        1  messages with what was seen of them\n        \
                    0  deliveries that would have been tried again\n        0  dead letters\n        0  rejected callbacks\n        \
                    0  instances that are known by it\n";
    assert_eq!((code, text.as_str()), (0, expected));
    assert!(remark.contains("what audit, crm handed on, backups, and an account id"), "{remark}");
    let (_, text, _) = receiver.run(&["erase", "--phone", PERSON]);
    assert!(text.starts_with("erased of 55449****1234:\n"), "{text}");
    let line = receiver.wait_for_line("somebody was erased", |line| line["changes"].is_number());
    assert_eq!((&line["phone"], &line["changes"]), (&json!("55449****1234"), &json!(1)));
    let (code, _, remark) = receiver.run(&["erase", "--phone", PERSON]);
    assert!(code == 0 && remark.contains("nothing has this number in it"), "{remark}");
    assert!(!receiver.output().contains(PHONE), "{}", receiver.output());
}

#[test]
fn what_names_nobody_for_sure_is_refused() {
    let receiver = Receiver::start("");
    for wrong in ["(44) 98765-1234", "Maria", "", "status@broadcast"] {
        let (code, text, error) = receiver.run(&["erase", "--phone", wrong]);
        assert_eq!((code, text.as_str()), (2, ""), "{wrong}: {error}");
        assert!(error.contains("+55 44 99999-9999") && !error.contains("98765"), "{error}");
        let body = json!({ "phone": wrong }).to_string();
        let refused = crate::support::request(receiver.admin, "POST", "/api/v1/erase", &[], body.as_bytes());
        refused.problem(400);
    }
    for wrong in ["", "?dry_run=true", "?phone=5544987651234&more=1"] {
        receiver.admin_post(&format!("/api/v1/erase{wrong}")).problem(400);
    }
    assert_eq!(receiver.admin_get("/api/v1/erase").status, 405);
    assert_eq!(receiver.run(&["erase"]).0, 2);
}

#[test]
fn an_instance_that_is_known_by_the_number_is_erased_too() {
    let receiver = Receiver::start("[sinks]\n");
    let body = with(body("m", OTHER), "instanceId", &json!(PHONE));
    assert_eq!(receiver.post(&body.to_string()).body, STORED);
    assert!(receiver.admin_get("/metrics").body.contains(PHONE));
    let (code, _, error) = receiver.run(&["erase", "--phone", PERSON]);
    assert_eq!((code, times_in_files(receiver.home(), PHONE)), (0, 0), "{error}");
    assert!(!receiver.admin_get("/metrics").body.contains(PHONE));
    receiver.stop();
}
