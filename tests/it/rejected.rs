//! Bodies that were no valid callback are kept, can be looked at, tried anew and let go; and there is an end to how many.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Home, Receiver, callback};

/// A callback that this version doesn't take; an older or a newer one might.
const WRONG_CASE: &str = r#"{"type":"messageStatusCallback","status":"READ","ids":["A"],"phone":"5544999999999"}"#;

/// The numbers of those kept, newest first.
fn kept(receiver: &Receiver) -> Vec<i64> {
    let listed = receiver.admin_get("/api/v1/rejected").json();
    listed.as_array().expect("a list").iter().map(|one| one["id"].as_i64().expect("a number")).collect()
}

/// A receiver that was upgraded: what was a wrong type before is a right one now.
fn upgraded(home: Home) -> Receiver {
    let database = Connection::open(home.store().join("store.sqlite3")).expect("the store is there");
    database
        .execute("UPDATE rejected SET body = replace(body, 'messageStatusCallback', 'MessageStatusCallback')", [])
        .expect("it can be written to");
    drop(database);
    home.start()
}

#[test]
fn what_is_answered_422_is_kept_as_it_came() {
    let receiver = Receiver::start("");
    let bodies = ["{}", "{ \"status\" : \"READ\",\n \"type\":\"X\", \"phone\": \"5544999999999\" }", WRONG_CASE];
    for body in bodies {
        receiver.post(body).problem(422);
    }
    let listed = receiver.admin_get("/api/v1/rejected").json();
    let listed = listed.as_array().expect("a list");
    for (one, body) in listed.iter().rev().zip(bodies) {
        assert_eq!((&one["bytes"], one.get("body")), (&json!(body.len()), None), "a list is for looking through");
        let shown = receiver.admin_get(&format!("/api/v1/rejected/{}", one["id"])).json();
        assert_eq!((&shown["body"], &shown["errors"]), (&json!(body), &one["errors"]));
        assert_eq!((&shown["id"], &shown["received_at"]), (&one["id"], &one["received_at"]));
        assert!(shown["errors"][0]["pointer"].is_string(), "{shown}");
    }
    assert_eq!(listed.len(), bodies.len());
    let numbers = kept(&receiver);
    let receiver = receiver.stop().start();
    assert_eq!(kept(&receiver), numbers, "after a restart, too");
}

#[test]
fn what_was_not_let_in_or_is_no_object_is_not_kept() {
    let receiver = Receiver::start("");
    receiver.post("[]").problem(400);
    receiver.post("{").problem(400);
    receiver.post_to("/message-status/wrong", &[("content-type", "application/json")], b"{}").problem(401);
    receiver.post_to("/message-status/wrong", &[], b"{}").problem(401);
    assert_eq!(kept(&receiver), [] as [i64; 0]);
}

#[test]
fn the_list_comes_in_pages_newest_first() {
    let receiver = Receiver::start("");
    for _ in 0..5 {
        receiver.post("{}").problem(422);
    }
    let all = kept(&receiver);
    assert!(all.is_sorted_by(|a, b| a > b) && all.len() == 5, "{all:?}");
    let page = |query: &str| {
        let page = receiver.admin_get(&format!("/api/v1/rejected?{query}")).json();
        page.as_array().expect("a list").iter().map(|one| one["id"].as_i64().expect("a number")).collect::<Vec<_>>()
    };
    assert_eq!(page("limit=2"), all[..2]);
    assert_eq!(page(&format!("limit=2&before={}", all[1])), all[2..4]);
    assert_eq!(page(&format!("before={}", all[4])), [] as [i64; 0]);
    for wrong in ["limit=x", "unknown=1", "before="] {
        receiver.admin_get(&format!("/api/v1/rejected?{wrong}")).problem(400);
    }
}

#[test]
fn there_is_an_end_to_what_is_kept_and_the_oldest_go_first() {
    let receiver = Receiver::start("limits = { body = \"8MiB\" }\n");
    let large = format!("{{\"pad\":\"{}\"}}", "x".repeat(7 << 20));
    for _ in 0..6 {
        receiver.post(&large).problem(422);
    }
    let after_large = kept(&receiver);
    assert_eq!(after_large.len(), 4, "as many as fit into 32 MiB");
    receiver.post("{}").problem(422);
    let last = kept(&receiver);
    assert_eq!((last.len(), &last[1..]), (5, after_large.as_slice()));
    assert_eq!(last[4], 3, "the first two are gone");
}

#[test]
fn by_the_api_one_is_retried_or_dropped() {
    let receiver = Receiver::start("");
    receiver.post(WRONG_CASE).problem(422);
    receiver.post("{}").problem(422);
    let [bad, good] = kept(&receiver)[..] else { panic!("two are kept") };
    let shown = receiver.admin_get(&format!("/api/v1/rejected/{good}")).json();
    let still = receiver.admin_post(&format!("/api/v1/rejected/{good}/retry"));
    still.problem(422);
    assert_eq!(kept(&receiver), [bad, good], "what is still wrong is still kept");

    let receiver = upgraded(receiver.stop());
    let answer = receiver.admin_post(&format!("/api/v1/rejected/{good}/retry"));
    assert_eq!((answer.status, answer.json()), (200, json!({ "stored": 1, "duplicates": 0 })));
    assert_eq!(receiver.changes_on_the_log(1)[0]["message_id"], "A");
    let stored = receiver.stored().pop().expect("stored");
    assert_eq!(stored["received_at"], shown["received_at"], "when it came");
    assert_eq!(kept(&receiver), [bad]);

    assert_eq!(receiver.admin_post(&format!("/api/v1/rejected/{bad}/drop")).json(), json!({ "dropped": 1 }));
    assert_eq!(kept(&receiver), [] as [i64; 0]);
    for gone in [bad, good, 99] {
        receiver.admin_get(&format!("/api/v1/rejected/{gone}")).problem(404);
        receiver.admin_post(&format!("/api/v1/rejected/{gone}/retry")).problem(404);
        receiver.admin_post(&format!("/api/v1/rejected/{gone}/drop")).problem(404);
    }
}

#[test]
fn the_command_lists_and_shows() {
    let receiver = Receiver::start("");
    assert_eq!(receiver.run(&["rejected", "list", "--json"]), (0, "[]\n".into(), String::new()));
    let (code, text, remark) = receiver.run(&["rejected", "list"]);
    assert_eq!((code, text.as_str()), (0, ""));
    assert!(remark.contains("no callback is kept"), "{remark}");

    for body in ["{}", WRONG_CASE] {
        receiver.post(body).problem(422);
    }
    let [newest, oldest] = kept(&receiver)[..] else { panic!("two are kept") };
    let (_, json, _) = receiver.run(&["rejected", "list", "--json"]);
    let listed: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(listed, receiver.admin_get("/api/v1/rejected").json());
    let (_, json, _) = receiver.run(&["rejected", "list", "--json", "--limit", "1"]);
    assert_eq!(serde_json::from_str::<Value>(&json).expect("JSON"), json!([listed[0]]));

    let (code, text, _) = receiver.run(&["rejected", "list"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((code, lines.len()), (0, 2), "{text}");
    assert!(lines[0].contains("/type is \"messageStatusCallback\""), "{text}");
    assert!(lines[1].contains("/status is missing") && lines[1].contains("2 bytes"), "{text}");

    let (code, text, _) = receiver.run(&["rejected", "show", &newest.to_string()]);
    assert_eq!(code, 0);
    assert!(text.ends_with(&format!("{WRONG_CASE}\n")), "{text}");
    let (code, json, _) = receiver.run(&["rejected", "show", &oldest.to_string(), "--json"]);
    assert_eq!((code, &serde_json::from_str::<Value>(&json).expect("JSON")["body"]), (0, &json!("{}")));
    let (code, text, error) = receiver.run(&["rejected", "show", "99"]);
    assert_eq!((code, text.as_str()), (1, ""));
    assert!(error.contains("no rejected callback has this number"), "{error}");
}

#[test]
fn the_command_retries_and_says_what_is_still_wrong() {
    let receiver = Receiver::start("");
    receiver.post("{}").problem(422);
    let two = WRONG_CASE.replace("[\"A\"]", "[\"B\", \"C\"]");
    for body in [WRONG_CASE, WRONG_CASE, &two] {
        receiver.post(body).problem(422);
    }
    let receiver = upgraded(receiver.stop());
    let mut numbers = kept(&receiver);
    numbers.reverse();
    let all: Vec<String> = numbers.iter().map(ToString::to_string).collect();

    let (code, text, _) = receiver.run(&["rejected", "retry", "--all", "--dry-run"]);
    assert_eq!(code, 0);
    assert!(text.starts_with("would retry 4") && all.iter().all(|number| text.contains(number)), "{text}");
    assert_eq!((kept(&receiver).len(), receiver.stored().len()), (4, 0), "a dry run does nothing");

    let (code, text, error) = receiver.run(&["rejected", "retry", &all[0], &all[1], "99"]);
    assert_eq!((code, text.trim_end()), (1, "retry: 1 of 3 done"));
    assert!(error.contains("it is still no valid callback: /type is missing"), "{error}");
    assert!(error.contains("99: no rejected callback has this number"), "{error}");
    assert_eq!(kept(&receiver), [numbers[3], numbers[2], numbers[0]]);

    let (code, text, _) = receiver.run(&["rejected", "retry", "--all"]);
    assert_eq!((code, text.trim_end()), (1, "retry: 2 of 3 done"));
    assert_eq!(kept(&receiver), numbers[..1]);
    let ids: Vec<_> = receiver.changes_on_the_log(3).iter().map(|line| line["message_id"].clone()).collect();
    let mut sorted: Vec<_> = ids.iter().map(ToString::to_string).collect();
    sorted.sort();
    assert_eq!(sorted, [r#""A""#, r#""B""#, r#""C""#], "one of the two equal ones was a duplicate");
}

#[test]
fn the_command_drops() {
    let receiver = Receiver::start("");
    for _ in 0..3 {
        receiver.post("{}").problem(422);
    }
    let (code, text, _) = receiver.run(&["rejected", "drop", "2", "--dry-run"]);
    assert_eq!((code, text.trim_end()), (0, "would drop 1: [2]"));
    assert_eq!(kept(&receiver), [3, 2, 1]);
    let (code, text, _) = receiver.run(&["rejected", "drop", "2"]);
    assert_eq!((code, text.trim_end()), (0, "drop: 1 of 1 done"));
    assert_eq!(kept(&receiver), [3, 1]);
    let (code, _, error) = receiver.run(&["rejected", "drop", "2"]);
    assert_eq!(code, 1);
    assert!(error.contains("2: no rejected callback"), "{error}");
    let (code, text, _) = receiver.run(&["rejected", "drop", "--all"]);
    assert_eq!((code, text.trim_end()), (0, "drop: 2 of 2 done"));
    assert_eq!(kept(&receiver), [] as [i64; 0]);
    receiver.post("{}").problem(422);
    assert_eq!(kept(&receiver), [4], "no number is given twice");
}

#[test]
fn a_wrong_call_of_the_command_is_exit_code_2() {
    let receiver = Receiver::start("");
    for wrong in [
        vec!["rejected"],
        vec!["rejected", "retry"],
        vec!["rejected", "drop", "1", "--all"],
        vec!["rejected", "show"],
        vec!["rejected", "show", "x"],
        vec!["rejected", "list", "--limit", "0"],
        vec!["rejected", "list", "--limit", "1001"],
        vec!["rejected", "forget", "1"],
    ] {
        let (code, text, error) = receiver.run(&wrong);
        assert_eq!((code, text.as_str(), error.is_empty()), (2, "", false), "{wrong:?}: {error}");
    }
}

#[test]
fn a_rejected_body_cannot_move_the_terminals_cursor() {
    let receiver = Receiver::start("");
    receiver.post("{\"x\":\"\u{9b}2J\",\n\"type\":\"X\"}").problem(422);
    let (_, text, _) = receiver.run(&["rejected", "show", "1"]);
    assert!(!text.contains('\u{9b}'), "{text:?}");
    assert_eq!(receiver.post(&callback("A", "READ", 1)).status, 200);
}
