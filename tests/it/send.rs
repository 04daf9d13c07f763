//! `send`: what it posts, and what it says of the answers.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::fake_plugchat::{Behaviour, FakePlugchat};
use crate::support::{DOCUMENTED, Home, Receiver, SECRET, output_of, repository, signal, terminal};

/// Runs `send` against a receiver; its exit code, its output and its errors, in which there is never a secret.
fn send(receiver: &Receiver, arguments: &[&str]) -> (i32, String, String) {
    checked(receiver.run(&[&["send"], arguments].concat()))
}

/// Likewise with `--json`, and the output as JSON.
fn send_for_json(receiver: &Receiver, arguments: &[&str]) -> (i32, Value) {
    let (code, out, error) = send(receiver, &[arguments, &["--json"]].concat());
    (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("JSON: {out}{error}")))
}

/// Runs `send` without a receiver of its own.
fn send_to(url: &str, arguments: &[&str]) -> (i32, String, String) {
    let home = Home::new("");
    checked(output_of(home.command(&["send", "--url", url]).args(arguments)))
}

fn checked((code, out, error): (i32, String, String)) -> (i32, String, String) {
    for canary in [SECRET, "canary"] {
        assert!(!out.contains(canary) && !error.contains(canary), "{out}{error}");
    }
    (code, out, error)
}

fn answered(stored: u64, duplicates: u64) -> Value {
    json!({ "status": 200, "stored": stored, "duplicates": duplicates })
}

#[test]
fn the_documented_callbacks_are_sent_as_documented_and_in_order() {
    let receiver = Receiver::start("");
    let (code, out, error) = send(&receiver, &[]);
    assert_eq!((code, error.as_str()), (0, ""), "{out}");
    let lines: Vec<_> = out.lines().collect();
    let line = |status: &str| format!("{status} 999999999999999999999 55449****9999: stored 1, duplicates 0 (200)");
    assert_eq!(lines, ["SENT", "RECEIVED", "READ", "READ-SELF", "PLAYED"].map(line));
    let sent: Vec<Value> = receiver.changes_on_the_log(5).iter().map(|change| change["status"].clone()).collect();
    assert_eq!(sent, ["SENT", "RECEIVED", "READ", "READ-SELF", "PLAYED"]);
    let stored: Vec<Value> = receiver.stored().iter().map(|change| change["callback"].clone()).collect();
    assert_eq!(stored, DOCUMENTED.map(|callback| serde_json::from_str::<Value>(callback).expect("JSON")));

    let (code, answers) = send_for_json(&receiver, &[]);
    assert_eq!(
        (code, answers),
        (0, json!([answered(0, 1), answered(0, 1), answered(0, 1), answered(0, 1), answered(0, 1)]))
    );
}

#[test]
fn one_callback_of_one_s_own_can_be_sent() {
    let receiver = Receiver::start("");
    let arguments = "--status READ --id one --id two --phone 120363000000000001-group --participant 5500988887777 \
                     --instance another.id --moment 2026-11-22T12:00:00Z";
    let (code, out, _) = send(&receiver, &arguments.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>());
    assert_eq!((code, out.as_str()), (0, "READ one and 1 more 55009****7777: stored 2, duplicates 0 (200)\n"));
    let stored = receiver.stored();
    let of = |key: &str| stored.iter().map(|change| change[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("message_id"), ["one", "two"]);
    assert_eq!(of("participant"), ["5500988887777", "5500988887777"]);
    assert_eq!(of("instance_id"), ["another.id", "another.id"]);
    assert_eq!(of("moment"), ["2026-11-22T12:00:00Z", "2026-11-22T12:00:00Z"]);
    assert_eq!(of("is_group"), [true, true]);
}

#[test]
fn captured_callbacks_are_stored_and_other_types_refused() {
    let receiver = Receiver::start("");
    let file = repository("tests/it/fixtures/captured.jsonl");
    let (code, out, error) = send(&receiver, &["--file", file.to_str().expect("UTF-8")]);
    assert_eq!(code, 1, "three were refused: {out}");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 17, "{out}");
    let stored = [1, 1, 1, 1, 31, 1, 3, 5, 1, 2, 1, 2, 1, 1];
    for (line, stored) in lines.iter().zip(stored) {
        assert!(line.ends_with(&format!(": stored {stored}, duplicates 0 (200)")), "{line}");
    }
    for (line, kind) in lines[14..].iter().zip(["Connected", "PresenceChat", "PresenceChat"]) {
        assert!(line.ends_with("(422)") && line.contains(&format!("/type is \"{kind}Callback\"")), "{line}");
    }
    assert!(lines[14].starts_with("line 15: this is another type of callback"), "{}", lines[14]);
    assert_eq!(error, "14 of 17 were taken\n");
    let texts = std::fs::read_to_string(file).expect("it can be read");
    for phone in texts
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).expect("JSON")["phone"].as_str().map(str::to_owned))
    {
        assert!(phone == "status@broadcast" || !out.contains(&phone), "{phone} is shown in full: {out}");
    }

    let logged = receiver.changes_on_the_log(stored.iter().sum());
    let count = |key: &str, value: &str| logged.iter().filter(|line| line[key] == value).count();
    assert_eq!((count("status", "READ_BY_ME"), count("transition", "unranked")), (35, 35));
    assert_eq!((count("status", "READ"), count("status", "PLAYED"), count("status", "RECEIVED")), (10, 5, 2));
    assert_eq!((count("chat", "group"), count("chat", "story"), count("chat", "direct")), (36, 1, 15));
    assert_eq!(receiver.admin_get("/api/v1/rejected").json().as_array().map(Vec::len), Some(3), "they are kept");
}

#[test]
fn lines_of_standard_input_are_sent_as_they_are() {
    let receiver = Receiver::start("");
    let mut command = receiver.home().command(&["send", "--file", "-", "--json"]);
    command.env("PLUGCHAT_RECEIVER__SERVER__LISTEN", receiver.address.to_string());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let good = DOCUMENTED[2];
    let input =
        [good.as_bytes(), b"\r\n\n  \n{\"type\":\xff}\n[]\n{\"type\":\"MessageStatusCallback\"}\n", good.as_bytes()];
    child.stdin.take().expect("piped").write_all(&input.concat()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    let answers: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let statuses: Vec<_> = answers.as_array().expect("a list").iter().map(|answer| answer["status"].clone()).collect();
    assert_eq!(statuses, [200, 400, 400, 422, 200]);
    assert_eq!((&answers[0], &answers[4]), (&answered(1, 0), &answered(0, 1)));
    assert_eq!(answers[1]["detail"], "the body is not UTF-8 (at byte 8)");
    assert_eq!(answers[3]["errors"][0]["pointer"], "/status");
}

#[test]
fn lifecycles_are_stored_in_full() {
    let receiver = Receiver::start("");
    // So many that everything that can happen does.
    let (code, summary) = send_for_json(&receiver, &["--count", "2000"]);
    assert_eq!(code, 0, "{summary}");
    assert_eq!((&summary["callbacks"], &summary["answers"]), (&json!(2000), &json!({ "200": 2000 })));
    assert_eq!((&summary["unanswered"], &summary["problems"]), (&json!(0), &json!({})));
    let stored = receiver.stored();
    assert_eq!(summary["stored"], stored.len());
    assert!(stored.len() > 2000 && summary["duplicates"].is_u64(), "{summary}");
    let latency =
        ["min", "median", "p95", "p99", "max"].map(|key| summary["latency_ms"][key].as_f64().expect("a number"));
    assert!(latency.is_sorted() && latency[0] > 0.0, "{latency:?}");
    let has = |key: &str, value: &str| stored.iter().any(|change| change[key] == value);
    for transition in ["advance", "repeat", "unranked"] {
        assert!(has("transition", transition), "{transition}");
    }
    assert!(has("phone", "status@broadcast") && stored.iter().any(|change| change["is_group"] == true));
}

#[test]
fn a_rate_and_a_number_of_connections_can_be_given() {
    let receiver = Receiver::start("");
    let (code, out, error) = send(&receiver, &["--count", "30", "--rate", "300", "--connections", "3"]);
    assert_eq!((code, error.as_str()), (0, ""), "progress is for terminals: {out}");
    assert!(out.contains("posted     30 in ") && out.contains(" on 3 connections"), "{out}");
    assert!(out.contains("30 with 200") && out.contains("median"), "{out}");
}

#[test]
fn a_terminal_is_shown_how_far_it_is_and_then_what_became_of_all() {
    let receiver = Receiver::start("");
    let (mut terminal, end) = terminal();
    let mut command = receiver.home().command(&["send", "--count", "200", "--rate", "400"]);
    command.env("PLUGCHAT_RECEIVER__SERVER__LISTEN", receiver.address.to_string());
    let output = command.stdout(Stdio::piped()).stderr(end).output().expect("it runs");
    drop(command);
    let mut shown = Vec::new();
    // It ends with an error when nobody has the other end any more.
    let _ = terminal.read_to_end(&mut shown);
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains(" of 200, ") && shown.contains(" a second, ") && shown.contains(" left"), "{shown}");
    let summary = String::from_utf8_lossy(&output.stdout);
    for part in ["posted     200 in ", "answered   200 with 200", "changes ", "latency    min "] {
        assert!(summary.contains(part), "{part}: {summary}");
    }
}

#[test]
fn an_interrupt_ends_it_with_a_summary() {
    let receiver = Receiver::start("");
    let mut command = receiver.home().command(&["send", "--count", "1000000", "--rate", "100", "--json"]);
    command.env("PLUGCHAT_RECEIVER__SERVER__LISTEN", receiver.address.to_string());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    receiver.changes_on_the_log(20);
    signal(child.id(), "INT");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1), "it has not done what it was asked for");
    let summary: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(summary["callbacks"].as_u64().is_some_and(|sent| sent > 0 && sent < 1_000_000), "{summary}");
    assert_eq!(summary["callbacks"], summary["answers"]["200"], "what was under way was waited for");
}

#[test]
fn a_callback_looks_like_one_of_the_sender_s() {
    let target = FakePlugchat::start(Behaviour::Always(200, "", r#"{"stored": 1, "duplicates": 0}"#.into()));
    let (code, out, error) = send_to(&format!("http://{}/hook/canary?v=1", target.address), &[]);
    assert_eq!(code, 0, "{out}{error}");
    let requests = target.requests();
    assert_eq!(requests.len(), 5);
    for (request, body) in requests.iter().zip(DOCUMENTED) {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/hook/canary?v=1"));
        assert_eq!(request.body, body);
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("content-length"), Some(body.len().to_string().as_str()));
        assert!(request.header("origin").is_some_and(|origin| origin.starts_with("https://")), "{request:?}");
        assert!(request.header("user-agent").is_some_and(|agent| agent.starts_with("Mozilla/5.0")), "{request:?}");
    }
}

#[test]
fn a_secret_of_any_characters_is_sent_right() {
    let receiver = Receiver::start("secrets = [\"canary/of ünusual?&#%2F chars\"]");
    let (code, out, error) = send(&receiver, &[]);
    assert_eq!(code, 0, "{out}{error}");
}

#[test]
fn a_wrong_secret_is_told_from_no_receiver() {
    let receiver = Receiver::start("");
    let url = format!("http://{}/message-status/canary-wrong", receiver.address);
    let (code, out, error) = send_to(&url, &["--status", "READ", "--id", "one", "--phone", "5500988887777"]);
    assert_eq!(code, 1);
    assert_eq!(out, "READ one 55009****7777: the secret is missing or wrong (401)\n");
    assert_eq!(error, "0 of 1 were taken\n");

    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    for arguments in [&[][..], &["--count", "100"]] {
        let (code, out, error) = send_to(&format!("http://{nobody}/message-status/canary"), arguments);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(
            error.contains(&format!("no receiver answers at http://{nobody}: the connection was refused")),
            "{error}"
        );
    }
    let home = Home::new("");
    let mut command = home.command(&["send", "--json"]);
    let (code, out, error) = checked(output_of(command.env("PLUGCHAT_RECEIVER__SERVER__LISTEN", nobody.to_string())));
    assert_eq!(code, 1);
    assert!(error.contains("Is it running, with this configuration?"), "{error}");
    let answers: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&answers[0]["status"], answers[1].is_null()),
        (&Value::Null, true),
        "nobody is asked in vain: {answers}"
    );
}

#[test]
fn an_answer_that_repeats_the_secret_is_not_repeated() {
    let body = json!({ "detail": "no route for /api/canary%2dsecret or canary-secret",
        "errors": [{ "pointer": "/canary-secret", "detail": "\u{1b}[2Jcanary-secret" }] });
    let target = FakePlugchat::start(Behaviour::Always(404, "", body.to_string()));
    for arguments in [&[][..], &["--json"], &["--count", "3"], &["--count", "3", "--json"]] {
        let url = format!("http://{}/api/canary-secret", target.address);
        let (code, out, _) = send_to(&url, arguments);
        assert_eq!(code, 1);
        assert!(out.contains("no route for /api/… or …") && !out.contains('\u{1b}'), "{out}");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = FakePlugchat::start(Behaviour::Always(200, "", String::new()));
    let headers: &'static str = format!("location: http://{}/x\r\n", elsewhere.address).leak();
    let target = FakePlugchat::start(Behaviour::Always(307, headers, String::new()));
    let (code, out, _) = send_to(&format!("http://{}/canary", target.address), &[]);
    assert_eq!(code, 1);
    assert!(out.contains("a redirect") && out.contains("(307)"), "{out}");
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn callbacks_without_an_answer_are_counted_and_the_others_still_sent() {
    let target = FakePlugchat::start(Behaviour::First(2, 503, r#"{"detail": "stopping"}"#.into()));
    let (code, out, error) =
        send_to(&format!("http://{}/canary", target.address), &["--count", "5", "--connections", "1", "--json"]);
    assert_eq!(code, 1, "{error}");
    let summary: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&summary["callbacks"], &summary["answers"]), (&json!(5), &json!({ "503": 2 })));
    assert_eq!(summary["unanswered"], 3);
    let problems = json!({ "stopping (503)": 2, "no answer: the connection closed before an answer came": 3 });
    assert_eq!(summary["problems"], problems);
}

#[test]
fn a_wrong_call_sends_nothing() {
    let target = FakePlugchat::start(Behaviour::Always(200, "", String::new()));
    let url = format!("http://{}/canary", target.address);
    for wrong in [
        "--status READ --id one",
        "--status READ --phone 5500988887777",
        "--id one --phone 5500988887777",
        "--status READ --id one --phone 5500988887777 --count 5",
        "--status READ --id one --phone 5500988887777 --file x",
        "--file x --count 5",
        "--rate 5",
        "--count 0",
        "--count 5 --rate 0",
        "--count 5 --rate fast",
        "--count 5 --connections 0",
        "--file not-there",
        "--file .",
        "--timeout soon",
    ] {
        let (code, out, error) = send_to(&url, &wrong.split(' ').collect::<Vec<_>>());
        assert_eq!((code, out.as_str()), (2, ""), "{wrong}: {error}");
    }
    for wrong in ["canary", "ftp://host.example/canary", "http://", "unix:/canary"] {
        let (code, _, error) = send_to(wrong, &[]);
        assert_eq!(code, 2, "{wrong}: {error}");
    }
    assert!(target.requests().is_empty());
}

#[test]
fn every_option_is_explained_with_an_example() {
    for command in ["send", "register"] {
        let (code, out, _) = output_of(Command::new(env!("CARGO_BIN_EXE_plugchat-receiver")).args([command, "--help"]));
        assert!(code == 0 && out.contains(&format!("plugchat-receiver {command} --")), "{out}");
    }
}
