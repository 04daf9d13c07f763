//! What the commands make of answers that are not this receiver's, and of those that are and look odd.

use std::net::TcpListener;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::fake_plugchat::{Behaviour, FakePlugchat};
use crate::inside::{Destination, Inside};
use crate::support::{Home, Receiver, callback, eventually, output_of};

use plugchat_receiver::sink::FailureKind;

const TOKEN: &str = "canary-admin-token-5c21";

/// Commands that ask the operator's API.
const COMMANDS: [&[&str]; 13] = [
    &["healthcheck"],
    &["show", "A"],
    &["show", "A", "--json"],
    &["sinks"],
    &["sinks", "--json"],
    &["sinks", "pause", "crm"],
    &["dead", "list", "--sink", "crm"],
    &["dead", "retry", "--sink", "crm"],
    &["dead", "drop", "--sink", "crm", "--yes"],
    &["rejected", "list"],
    &["rejected", "show", "1"],
    &["rejected", "retry", "--all"],
    &["replay", "--sink", "crm", "--since", "1h"],
];

/// Runs a command whose receiver is this one; its exit code, standard output and standard error.
fn ask(other: &FakePlugchat, arguments: &[&str]) -> (i32, String, String) {
    let home = Home::new(&format!("[admin]\nlisten = \"{}\"\ntoken = \"{TOKEN}\"\n", other.address));
    output_of(&mut home.command(arguments))
}

#[test]
fn an_answer_that_is_not_the_receivers_is_never_taken_for_one() {
    for body in ["", "{}", "{\"ok\": true}", "[{}]", "[1]", "null", "<html>hello</html>"] {
        let other = FakePlugchat::start(Behaviour::Always(200, "", body.into()));
        for command in COMMANDS {
            let (code, text, error) = ask(&other, command);
            assert_eq!((code, text.as_str()), (1, ""), "{command:?} {body}: {error}");
            assert!(error.starts_with("error: ") && error.trim_end().len() > 30, "{command:?} {body}: {error}");
        }
    }
}

#[test]
fn an_answer_that_says_nothing_is_told_in_words() {
    for (status, body) in [(500, ""), (404, "{}"), (302, "moved"), (503, "<html>")] {
        let other = FakePlugchat::start(Behaviour::Always(status, "", body.into()));
        for command in COMMANDS {
            let (code, _, error) = ask(&other, command);
            assert_eq!(code, 1, "{command:?}");
            assert!(error.contains(&status.to_string()) && !error.trim_end().ends_with(':'), "{command:?}: {error}");
        }
    }
    let other = FakePlugchat::start(Behaviour::Always(503, "", json!({ "ready": false, "checks": {} }).to_string()));
    assert!(ask(&other, &["healthcheck"]).2.contains("does not say why"));
    let other = FakePlugchat::start(Behaviour::Babbles);
    assert!(ask(&other, &["sinks"]).2.contains("what came back is not HTTP; is it running"));
}

#[test]
fn what_the_other_side_repeats_of_the_token_is_not_printed() {
    let said = format!("no {TOKEN} or {}\u{1b}[2J\u{202e}", TOKEN.replace('-', "%2D"));
    let problem = json!({ "detail": said, "errors": [{ "pointer": said, "detail": said }] }).to_string();
    let sinks = json!([{ "name": said, "state": said, "last_error": said }]).to_string();
    let message = json!({ "recipients": [{ "recipient": said, "changes": [{ "status": said }] }] }).to_string();
    for (status, body) in [(404, &problem), (401, &problem), (200, &sinks), (200, &message)] {
        let other = FakePlugchat::start(Behaviour::Always(status, "", body.clone()));
        for command in COMMANDS {
            let (_, text, error) = ask(&other, command);
            for printed in [text, error] {
                assert!(
                    !printed.contains("5c21") && !printed.contains(['\u{1b}', '\u{202e}']),
                    "{command:?} {printed:?}"
                );
            }
        }
    }
    let elsewhere = FakePlugchat::start(Behaviour::Always(200, "", "[]".into()));
    let headers: &'static str = format!("location: http://{}/\r\n", elsewhere.address).leak();
    let other = FakePlugchat::start(Behaviour::Always(307, headers, String::new()));
    assert_eq!(ask(&other, &["sinks"]).0, 1);
    assert!(elsewhere.requests().is_empty(), "the token goes nowhere else");
}

#[test]
fn a_rejected_body_cannot_write_to_the_terminal_when_it_is_retried() {
    let receiver = Receiver::start("");
    receiver.post("{\"\\u001b[2J\\u202e\":1,\"type\":\"MessageStatusCallback\",\"\\u001b]0;\\u0007\":{}}").problem(422);
    let deep = format!("{}1{}", r#"{"a":"#.repeat(70), "}".repeat(70));
    receiver.post(&format!("{{\"\\u001b[2J\\u202e\":{deep}}}")).problem(422);
    for command in [["rejected", "retry", "--all"].as_slice(), &["rejected", "list"], &["rejected", "show", "2"]] {
        let (_, text, error) = receiver.run(command);
        assert!(!(text.clone() + &error).contains(['\u{1b}', '\u{202e}', '\u{7}']), "{command:?}: {text:?} {error:?}");
    }
    let (code, json, _) = receiver.run(&["rejected", "list", "--json"]);
    let listed: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, &listed), (0, &receiver.admin_get("/api/v1/rejected").json()), "as data it is whole");
    assert!(json.contains("\\u202e") && !json.contains('\u{202e}'), "{json}");
}

#[test]
fn a_callback_with_values_that_nothing_can_hold_is_shown_and_listed() {
    let odd = format!(r#","huge":1e400,"long":{},"face":"\ud83d\ude00 \u202e"}}"#, "7".repeat(5000));
    let body = callback("A", "READ", 1_632_234_645_000).replacen('}', &odd, 1);
    let destination = Destination::new(|_| Some(FailureKind::Refused));
    let inside = Inside::start(&destination);
    inside.post(&body);
    let (code, text, error) = eventually("it is dead", || {
        let shown = inside.run(&["show", "A"]);
        (shown.0 != 0 || shown.1.contains("dead")).then_some(shown)
    });
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(text.contains("READ") && text.contains("as scripted"), "{text}");
    let (code, text, error) = inside.run(&["dead", "list", "--sink", "own"]);
    assert_eq!(
        (code, text.contains("READ of A to 55449****9999: as scripted"), error.as_str()),
        (0, true, ""),
        "{text}"
    );
    for command in [["show", "A", "--json"].as_slice(), &["dead", "list", "--sink", "own", "--json"]] {
        let (code, json, error) = inside.run(command);
        assert_eq!((code, error.as_str()), (0, ""), "{command:?}");
        assert!(json.contains("1e400") && json.contains("\\ud83d\\ude00 \\u202e"), "{json}");
    }
}

#[test]
fn what_an_older_version_stored_and_this_one_would_refuse_is_shown_all_the_same() {
    let change = r#"{"status":"READ","transition":"advance","message_id":"A","callback":{"half":"\ud800"}}"#;
    let message = format!(r#"{{"message_id":"A","recipients":[{{"recipient":"r","changes":[{change}]}}]}}"#);
    let letters =
        format!(r#"[{{"id":1,"died_at":"d","reason":"refused","attempts":1,"cause":"c","change":{change}}}]"#);
    for (body, command) in [(message, ["show", "A"].as_slice()), (letters, &["dead", "list", "--sink", "crm"])] {
        let other = FakePlugchat::start(Behaviour::Always(200, "", body));
        let (code, text, error) = ask(&other, command);
        assert_eq!((code, text.contains("READ"), error.as_str()), (0, true, ""), "{command:?}: {text}");
    }
}

#[test]
fn a_200_that_is_not_the_receivers_is_no_callback_taken() {
    for body in ["", "ok", "{}", r#"{"stored": 1}"#] {
        let other = FakePlugchat::start(Behaviour::Always(200, "", body.into()));
        let url = format!("http://{}/canary", other.address);
        for arguments in [&[][..], &["--json"], &["--count", "3"], &["--count", "3", "--json"]] {
            let (code, _, _) = output_of(Home::new("").command(&["send", "--url", &url]).args(arguments));
            assert_eq!(code, 1, "{body} {arguments:?}");
        }
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error_unless_nobody_reads_on() {
    let home = Home::new("");
    for command in [["check"].as_slice(), &["url"], &["completions", "bash"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("it is always there");
        let ended = home.command(command).stdout(full).stderr(Stdio::piped()).output().expect("it runs");
        let error = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.code() == Some(1) && error.contains("cannot write to standard output"), "{error}");

        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        drop(reader);
        let ended = home.command(command).stdout(writer).stderr(Stdio::piped()).output().expect("it runs");
        assert_eq!(ended.status.code(), Some(0), "{command:?}");
    }
}

#[test]
fn a_listener_on_every_address_is_told_by_one_that_this_host_reaches() {
    for (listen, host) in [("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]")] {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let home = Home::new("");
        let mut command = home.command(&["url"]);
        let (code, url, _) = output_of(command.env("PLUGCHAT_RECEIVER__SERVER__LISTEN", format!("{listen}:{port}")));
        assert_eq!((code, url.starts_with(&format!("http://{host}:{port}/"))), (0, true), "{url}");
    }
}
