//! An operator sees where each sink stands, and steers it.

use plugchat_receiver::sink::FailureKind;
use serde_json::{Value, json};

use crate::inside::{Destination, Inside};
use crate::support::{Home, Receiver, callback, eventually, output_of};

const START: i64 = 1_632_234_645_000;

const TRY_AGAIN: Option<FailureKind> = Some(FailureKind::TryAgain { after: None });

/// A receiver whose destination refuses the messages R…, and the dead letters of three of them.
fn with_dead_letters() -> (Destination, Inside) {
    let destination = Destination::new(|id| id.starts_with('R').then_some(FailureKind::Refused));
    let inside = Inside::start(&destination);
    for id in ["A", "R1", "R2", "B", "R3"] {
        inside.post(&callback(id, "READ", START));
    }
    eventually("all are delivered or dead", || {
        let standing = inside.standing();
        (standing["dead"] == 3 && standing["lag"] == 0).then_some(())
    });
    assert_eq!(destination.messages(), ["A", "B"]);
    (destination, inside)
}

/// The numbers and message ids of the sink's dead letters.
fn dead(inside: &Inside, query: &str) -> Vec<(i64, String)> {
    let listed = inside.get(&format!("/api/v1/sinks/own/dead?{query}")).json();
    let of_one = |letter: &Value| {
        let message_id = letter["change"]["message_id"].as_str().expect("text");
        (letter["id"].as_i64().expect("a number"), message_id.to_owned())
    };
    listed.as_array().expect("a list").iter().map(of_one).collect()
}

/// What became of the changes of a message at the test's own sink.
fn stands(inside: &Inside, message_id: &str) -> Vec<Value> {
    let message = inside.get(&format!("/api/v1/messages/{message_id}")).json();
    let changes = message["recipients"][0]["changes"].as_array().expect("a list").clone();
    changes.into_iter().map(|change| change["sinks"]["own"].clone()).collect()
}

#[test]
fn a_paused_sink_is_given_nothing_until_it_is_resumed_over_a_restart_too() {
    let destination = Destination::new(|_| None);
    let inside = Inside::start(&destination);
    let (code, text, _) = inside.run(&["sinks", "pause", "own"]);
    assert_eq!((code, text.as_str()), (0, "own: paused (operator)\n"));
    inside.post(&callback("A", "SENT", START));
    assert_eq!(stands(&inside, "A"), ["waiting"]);
    let inside = Inside::start_in(inside.stop(), &destination);
    inside.post(&callback("B", "SENT", START));
    let standing = eventually("it is paused still", || {
        let standing = inside.standing();
        (standing["state"] == "paused").then_some(standing)
    });
    assert_eq!(
        (&standing["state"], &standing["paused"], &standing["lag"]),
        (&json!("paused"), &json!("operator"), &json!(2))
    );
    let stored = inside.get("/api/v1/changes").json();
    assert_eq!(standing["oldest_undelivered_at"], stored["changes"][0]["received_at"]);
    assert_eq!(destination.messages(), [""; 0]);

    let answer = inside.order("/api/v1/sinks/own/resume", "");
    assert_eq!((answer.status, &answer.json()["paused"]), (200, &Value::Null));
    eventually("all is delivered", || (destination.messages() == ["A", "B"]).then_some(()));
    eventually("nothing is undelivered", || (inside.standing()["oldest_undelivered_at"].is_null()).then_some(()));
    assert_eq!(stands(&inside, "A"), ["delivered"]);
    let inside = Inside::start_in(inside.stop(), &destination);
    assert_eq!(inside.standing()["state"], "delivering");
}

#[test]
fn a_sink_whose_destination_is_gone_is_paused_and_says_why() {
    let destination = Destination::new(|_| Some(FailureKind::Gone));
    let inside = Inside::start(&destination);
    inside.post(&callback("A", "SENT", START));
    eventually("it is paused", || (inside.standing()["paused"] == "gone").then_some(()));
    assert!(inside.run(&["sinks"]).1.contains("paused (gone)"));
    destination.now(|_| None);
    assert_eq!(inside.run(&["sinks", "resume", "own"]), (0, "own: delivering\n".into(), String::new()));
    eventually("it is delivered", || (destination.messages() == ["A"]).then_some(()));
}

#[test]
fn a_sink_that_is_away_is_tried_at_once_when_it_is_resumed() {
    let hour = std::time::Duration::from_secs(3600);
    let destination = Destination::new(move |_| Some(FailureKind::Away { after: Some(hour) }));
    let inside = Inside::start(&destination);
    inside.post(&callback("A", "SENT", START));
    eventually("it is away", || (inside.standing()["state"] == "away").then_some(()));
    let (_, table, _) = inside.run(&["sinks"]);
    assert!(table.contains("away since 20") && table.contains("as scripted"), "{table}");
    destination.now(|_| None);
    inside.order("/api/v1/sinks/own/resume", "");
    // The next probe would be minutes away.
    eventually("it is delivered", || (destination.messages() == ["A"]).then_some(()));
    assert_eq!(inside.standing()["state"], "delivering");
}

#[test]
fn sinks_are_listed_with_their_columns() {
    let receiver = Receiver::start("[sinks.audit.log]\n[sinks.another-one.log]\n");
    receiver.post(&callback("A", "READ", START));
    let sinks = eventually("it is delivered", || {
        let sinks = receiver.admin_get("/api/v1/sinks").json();
        let all = sinks.as_array()?.iter().all(|sink| sink["delivered"] == 1 && sink["lag"] == 0);
        all.then_some(sinks)
    });
    let (code, table, _) = receiver.run(&["sinks"]);
    assert_eq!(code, 0);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0].join(" "), "NAME STATE LAG DEFERRED DEAD LAST SUCCESS LAST ERROR");
    for (line, name) in lines[1..].iter().zip(["another-one", "audit"]) {
        assert_eq!(line[..5], [name, "delivering", "0", "0", "0"], "{table}");
    }
    let (code, json, _) = receiver.run(&["sinks", "--json"]);
    assert_eq!((code, serde_json::from_str::<Value>(&json).expect("JSON")), (0, sinks));
    let (code, json, _) = receiver.run(&["sinks", "pause", "audit", "--json"]);
    let paused: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, &paused["name"], &paused["state"]), (0, &json!("audit"), &json!("paused")));
}

#[test]
fn a_sink_that_is_not_there_is_answered_with_those_that_are() {
    let receiver = Receiver::start("[sinks.audit.log]\n[sinks.crm.log]\n");
    for action in ["pause", "resume", "replay", "replay/cancel", "dead/retry", "dead/drop"] {
        let problem = receiver.admin_post(&format!("/api/v1/sinks/nobody/{action}")).problem(404);
        assert_eq!(problem["detail"], "no sink has this name; there are: audit, crm", "{action}");
    }
    receiver.admin_get("/api/v1/sinks/nobody/dead").problem(404);
    for command in [
        ["sinks", "pause", "nobody"].as_slice(),
        &["dead", "list", "--sink", "nobody"],
        &["dead", "drop", "--sink", "nobody"],
        &["replay", "--sink", "nobody", "--since", "1h"],
    ] {
        let (code, text, error) = receiver.run(command);
        assert_eq!((code, text.as_str()), (1, ""), "{command:?}");
        assert!(error.contains("audit, crm"), "{error}");
    }
    for wrong in [
        ["sinks", "pause", "No Name"].as_slice(),
        &["dead", "list"],
        &["dead", "retry", "--sink", "audit", "--reason", "none"],
    ] {
        assert_eq!(receiver.run(wrong).0, 2, "{wrong:?}");
    }
}

#[test]
fn dead_letters_are_listed_in_pages_and_by_reason_and_number() {
    let (_, inside) = with_dead_letters();
    let all = dead(&inside, "");
    assert_eq!(all.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>(), ["R1", "R2", "R3"]);
    assert_eq!(dead(&inside, "limit=2"), all[..2]);
    assert_eq!(dead(&inside, &format!("limit=2&after={}", all[1].0)), all[2..]);
    assert_eq!(dead(&inside, "reason=refused"), all);
    assert_eq!(dead(&inside, "reason=exhausted"), []);
    assert_eq!(dead(&inside, &format!("id={}", all[1].0)), all[1..2]);
    for wrong in ["reason=none", "limit=x", "unknown=1"] {
        inside.get(&format!("/api/v1/sinks/own/dead?{wrong}")).problem(400);
    }
    let letters = inside.get("/api/v1/sinks/own/dead").json();
    let letter = &letters[0];
    assert_eq!(
        (&letter["reason"], &letter["cause"], &letter["attempts"]),
        (&json!("refused"), &json!("as scripted"), &json!(1))
    );
    assert_eq!(
        (&letter["change"]["type"], &letter["change"]["phone"]),
        (&json!("message.status"), &json!("5544999999999"))
    );

    let (code, text, _) = inside.run(&["dead", "list", "--sink", "own"]);
    assert_eq!((code, text.lines().count()), (0, 3));
    for part in
        ["refused", "attempts 1", "READ of R1 to 55449****9999: as scripted", letter["died_at"].as_str().expect("text")]
    {
        assert!(text.lines().next().is_some_and(|line| line.contains(part)), "{part}: {text}");
    }
    let (code, json, _) = inside.run(&["dead", "list", "--sink", "own", "--json"]);
    assert_eq!((code, serde_json::from_str::<Value>(&json).expect("JSON")), (0, letters));
    let (code, text, remark) = inside.run(&["dead", "list", "--sink", "own", "--reason", "exhausted"]);
    assert_eq!((code, text.as_str(), remark.as_str()), (0, "", "there are no such dead letters\n"));
}

#[test]
fn dead_letters_are_given_again_when_they_are_retried() {
    let (destination, inside) = with_dead_letters();
    assert_eq!(stands(&inside, "R1"), ["dead: refused"]);
    let (_, shown, _) = inside.run(&["show", "R1"]);
    assert!(shown.contains("own dead: refused (letter 1, attempts 1, as scripted)"), "{shown}");
    destination.now(|_| None);
    let (code, text, _) = inside.run(&["dead", "retry", "--sink", "own", "--dry-run"]);
    assert_eq!((code, text.as_str()), (0, "would retry 3\n"));
    let (code, text, _) = inside.run(&["dead", "retry", "--sink", "own", "--id", "2"]);
    assert_eq!((code, text.as_str()), (0, "retry: 1 of 1 are given again\n"));
    eventually("it is delivered", || (destination.messages() == ["A", "B", "R2"]).then_some(()));
    eventually("it is shown so", || (stands(&inside, "R2") == ["delivered"]).then_some(()));
    assert_eq!(inside.standing()["dead"], 2);
    let (code, _, error) = inside.run(&["dead", "retry", "--sink", "own", "--id", "2"]);
    assert!(code == 1 && error.contains("number 2"), "{code} {error}");

    let answer = inside.order("/api/v1/sinks/own/dead/retry", r#"{"reason": "refused"}"#).json();
    assert_eq!(answer, json!({ "matching": 2, "retried": 2 }));
    eventually("all are delivered", || {
        let mut rest = destination.messages().split_off(2);
        rest.sort();
        (rest == ["R1", "R2", "R3"]).then_some(())
    });
    eventually("nothing is dead or deferred", || {
        let standing = inside.standing();
        (standing["dead"] == 0 && standing["deferred"] == 0).then_some(())
    });
    let stored = inside.get("/api/v1/changes").json();
    let event_id = |message_id: &str| {
        let mut changes = stored["changes"].as_array().expect("a list").iter();
        changes.find(|change| change["message_id"] == message_id).expect("it is stored")["id"].clone()
    };
    for (id, message_id) in destination.taken() {
        assert_eq!(event_id(&message_id), id, "with the id that they had");
    }
    assert_eq!(inside.run(&["dead", "retry", "--sink", "own"]).1, "would retry 0\n");
}

#[test]
fn dead_letters_are_counted_before_they_are_dropped() {
    let (_, inside) = with_dead_letters();
    for arguments in [&["--dry-run"], &["--reason=refused"]] {
        let (code, text, error) = inside.run(&[&["dead", "drop", "--sink", "own"], arguments.as_slice()].concat());
        match arguments[0] {
            "--dry-run" => assert_eq!((code, text.as_str()), (0, "would drop 3\n")),
            _ => assert!(code == 2 && text.is_empty() && error.contains("3 dead letters"), "{code} {text} {error}"),
        }
        assert_eq!(dead(&inside, "").len(), 3);
    }
    let dry = inside.order("/api/v1/sinks/own/dead/drop", r#"{"dry_run": true}"#).json();
    assert_eq!(dry, json!({ "matching": 3, "dropped": 0 }));
    assert_eq!(
        inside.run(&["dead", "drop", "--sink", "own", "--id", "1"]).1,
        "drop: 1 of 1 dropped\n",
        "one needs no yes"
    );
    assert_eq!(inside.order("/api/v1/sinks/own/dead/drop?id=2", "").json(), json!({ "matching": 1, "dropped": 1 }));
    assert_eq!(dead(&inside, "").len(), 1);
    assert_eq!(inside.standing()["dead"], 1);
    assert_eq!(inside.run(&["dead", "drop", "--sink", "own", "--yes"]).1, "drop: 1 of 1 dropped\n");
    assert_eq!(inside.standing()["dead"], 0);

    for wrong in [r#"{"reason": "none"}"#, r#"{"unknown": 1}"#, "[", r#"{"id": "x"}"#] {
        inside.order("/api/v1/sinks/own/dead/drop", wrong).problem(400);
    }
    inside.order("/api/v1/sinks/own/dead/drop?id=1", r#"{"id": 1}"#).problem(400);
    assert_eq!(inside.get("/api/v1/sinks/own/dead/drop").status, 405);
}

#[test]
fn a_change_that_is_tried_again_is_shown_with_its_attempts_and_when_it_is_due() {
    let destination = Destination::new(|id| if id == "F" { TRY_AGAIN } else { None });
    let inside = Inside::start(&destination);
    inside.post(&callback("F", "SENT", START));
    inside.post(&callback("A", "SENT", START));
    inside.post(&callback("F", "READ", START));
    eventually("both of F wait, one behind the other", || {
        (stands(&inside, "F") == ["deferred", "deferred"]).then_some(())
    });
    let message = inside.get("/api/v1/messages/F").json();
    let exceptions: Vec<_> = (0..2).map(|n| &message["recipients"][0]["changes"][n]["exceptions"]["own"]).collect();
    assert!(exceptions[0]["attempts"].as_u64() >= Some(1) && exceptions[0]["due_at"].is_string(), "{message}");
    assert_eq!(exceptions[1]["attempts"], 0, "its turn has not come");
    let (_, shown, _) = inside.run(&["show", "F"]);
    assert!(shown.contains("own deferred (attempts "), "{shown}");
    eventually("A is there all the same", || (destination.messages() == ["A"]).then_some(()));
    destination.now(|_| None);
    eventually("both are delivered", || (stands(&inside, "F") == ["delivered", "delivered"]).then_some(()));
    assert_eq!(destination.messages(), ["A", "F", "F"]);
}

#[test]
fn check_reaches_every_sink_and_says_what_it_found() {
    let receiver = Receiver::start("[sinks.audit.log]\n[sinks.second.log]\n");
    let (code, text, _) = receiver.run(&["check", "--connect"]);
    assert_eq!((code, text.matches("standard output, always there").count()), (0, 2), "{text}");
    let (code, text, _) = receiver.run(&["check"]);
    assert_eq!((code, text.matches("always there").count()), (0, 0), "{text}");
    let home = Home::new("[sinks.crm.forward]\nurl = \"http://127.0.0.1:9/\"\n");
    let (code, json, _) = output_of(&mut home.command(&["check", "--connect", "--json"]));
    let told: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, &told["sinks"][0]["reached"]), (2, &json!(false)), "{json}");
}
