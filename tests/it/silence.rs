//! Who is silent, which sinks have given something up, and what the log says of it: once when it begins, once when it is over.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::destination::{Destination, Reply};
use crate::support::{Home, Receiver, callback, eventually, wait_until};

const START: i64 = 1_632_234_645_000;

/// A callback from this instance.
fn from(instance: &str, message_id: &str) -> String {
    let mut body: Value = serde_json::from_str(&callback(message_id, "SENT", START)).expect("JSON");
    body["instanceId"] = json!(instance);
    body.to_string()
}

fn instances(receiver: &Receiver) -> Vec<Value> {
    receiver.admin_get("/api/v1/instances").json().as_array().expect("a list").clone()
}

/// How many lines say this so far.
fn said(receiver: &Receiver, text: &str) -> usize {
    receiver.output().matches(text).count()
}

#[test]
fn the_last_callback_of_each_instance_is_known_everywhere_and_survives_a_kill() {
    let receiver = Receiver::start("");
    let (code, _, remark) = receiver.run(&["sinks"]);
    assert_eq!((code, remark.as_str()), (0, "no callback has come yet\n"));
    for (instance, id) in [("one", "A"), ("two", "B"), ("one", "C")] {
        assert_eq!(receiver.post(&from(instance, id)).status, 200);
    }
    let nameless = callback("D", "SENT", START).replace("\"instance.id\"", "null");
    assert_eq!(receiver.post(&nameless).status, 200);
    let told = instances(&receiver);
    let stored = receiver.stored();
    for (instance, last) in [(json!(null), "D"), (json!("one"), "C"), (json!("two"), "B")] {
        let found = told.iter().find(|told| told["instance_id"] == instance).expect("it is there");
        let change = stored.iter().find(|change| change["message_id"] == last).expect("it is stored");
        assert_eq!((&found["last_callback_at"], &found["silent"]), (&change["received_at"], &json!(false)));
    }
    assert_eq!(told.len(), 3);

    let receiver = receiver.kill().start();
    assert_eq!(instances(&receiver), told);
    assert_eq!(receiver.admin_get("/readyz").json()["instances"], json!(told));
    let (code, text, _) = receiver.run(&["sinks"]);
    let block = text.split_once("\n\n").expect("two blocks").1;
    let lines: Vec<Vec<&str>> = block.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((code, lines[0].join(" ").as_str()), (0, "INSTANCE LAST CALLBACK STATE"));
    for (line, (told, name)) in lines[1..].iter().zip(told.iter().zip(["-", "one", "two"])) {
        assert_eq!(line[..], [name, told["last_callback_at"].as_str().expect("text"), "heard"]);
    }
    let metrics = receiver.admin_get("/metrics").body;
    for (told, label) in told.iter().zip(["none", "one", "two"]) {
        let at: jiff::Timestamp = told["last_callback_at"].as_str().expect("text").parse().expect("a time");
        let sample = format!(
            "plugchat_last_callback_timestamp_seconds{{instance=\"{label}\"}} {}\n",
            at.as_millisecond() as f64 / 1000.0
        );
        assert!(metrics.contains(&sample), "{sample}: {metrics}");
    }
}

#[test]
fn instances_beyond_a_hundred_are_one() {
    let receiver = Receiver::start("");
    for n in 0..105 {
        assert_eq!(receiver.post(&from(&format!("instance-{n:03}"), &format!("{n}"))).status, 200);
    }
    let told = instances(&receiver);
    assert_eq!(told.len(), 101);
    let stored = receiver.stored();
    let other = told.iter().find(|told| told["instance_id"] == "other").expect("it is there");
    assert_eq!(other["last_callback_at"], stored[104]["received_at"]);
    // One that was known keeps its place.
    assert_eq!(receiver.post(&from("instance-007", "again")).status, 200);
    let stored = receiver.stored();
    let told = instances(&receiver);
    let known = told.iter().find(|told| told["instance_id"] == "instance-007").expect("it is there");
    assert_eq!(known["last_callback_at"], stored[105]["received_at"]);
    let metrics = receiver.admin_get("/metrics").body;
    assert_eq!(metrics.matches("plugchat_last_callback_timestamp_seconds{").count(), 101);
}

#[test]
fn no_label_is_longer_than_an_instance_id_may_be() {
    let receiver = Receiver::start("");
    for (n, length) in [128, 129, 1000].into_iter().enumerate() {
        assert_eq!(receiver.post(&from(&"x".repeat(length), &format!("{n}"))).status, 200);
    }
    let ids: Vec<usize> =
        instances(&receiver).iter().map(|told| told["instance_id"].as_str().expect("text").len()).collect();
    assert_eq!(ids, ["other".len(), 128]);
}

/// A receiver whose wall clock is the test's.
struct Clocked {
    receiver: Receiver,
    clock: PathBuf,
}

impl Clocked {
    fn start(home: Home) -> Self {
        let clock = home.store().with_file_name("clock");
        set(&clock, 0);
        let receiver = home.start_with(|command| {
            command
                .env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketimeMT.so.1")
                .env("FAKETIME_TIMESTAMP_FILE", &clock)
                .env("FAKETIME_NO_CACHE", "1")
                // Time-outs run as they are.
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        });
        Self { receiver, clock }
    }

    /// It is so many hours later than when the test began.
    fn later(&self, hours: i64) {
        set(&self.clock, hours);
    }
}

fn set(clock: &std::path::Path, hours: i64) {
    // In one piece, as it is read at any time.
    let next = clock.with_extension("next");
    std::fs::write(&next, format!("+{hours}h\n")).expect("it can be written");
    std::fs::rename(next, clock).expect("it can be put in place");
}

const SILENT: &str = "no callback has come from this instance for unusually long";
const AGAIN: &str = "callbacks come from this instance again";

#[test]
fn an_instance_that_falls_silent_is_on_the_log_once_and_again_when_it_is_heard() {
    let clocked = Clocked::start(Home::new(""));
    let receiver = &clocked.receiver;
    for hours in (0..=48).step_by(6) {
        clocked.later(hours);
        for instance in ["busy", "steady"] {
            assert_eq!(receiver.post(&from(instance, &format!("{instance}-{hours}"))).status, 200);
        }
    }
    // One that has not been there for long, and says nothing any more, is nothing unusual.
    assert_eq!(receiver.post(&from("new", "N")).status, 200);
    clocked.later(58);
    assert_eq!(receiver.post(&from("steady", "S")).status, 200);
    let silent = |id: &str| {
        instances(receiver).iter().find(|told| told["instance_id"] == id).expect("it is there")["silent"] == true
    };
    assert!(!silent("busy"), "ten hours are not twice six");
    clocked.later(61);
    let line = receiver.wait_for_line("it is silent", |line| line["target"] == "plugchat_receiver::silence");
    assert_eq!((&line["level"], &line["instance"]), (&json!("WARN"), &json!("busy")), "{line}");
    assert!(silent("busy") && !silent("steady") && !silent("new"));
    assert!(receiver.admin_get("/metrics").body.contains("plugchat_instance_silent{instance=\"busy\"} 1\n"));
    let (_, text, _) = receiver.run(&["sinks"]);
    assert!(text.lines().any(|line| line.starts_with("busy") && line.ends_with("silent for unusually long")), "{text}");

    // When the other has fallen silent as well, the first was looked at once more.
    clocked.later(90);
    let line =
        receiver.wait_for_line("the other is silent, too", |line| line["target"] == "plugchat_receiver::silence");
    assert_eq!(line["instance"], "steady", "{line}");
    assert_eq!(receiver.post(&from("busy", "back")).status, 200);
    let line = receiver.wait_for_line("it is heard", |line| line["target"] == "plugchat_receiver::silence");
    assert_eq!((&line["level"], &line["instance"]), (&json!("INFO"), &json!("busy")), "{line}");
    assert!(!silent("busy"));
    let output = clocked.receiver.end("TERM").output;
    assert_eq!((output.matches(SILENT).count(), output.matches(AGAIN).count()), (2, 1), "{output}");
}

#[test]
fn hundreds_of_refusals_are_a_few_lines_and_their_beginning_and_end_are_one_each() {
    let destination = Destination::start(|_, _| Reply::Status(400));
    let receiver = Receiver::start(&destination.sink("crm"));
    let ids: Vec<String> = (0..500).map(|n| format!("M{n}")).collect();
    let mut body: Value = serde_json::from_str(&callback("M", "SENT", START)).expect("JSON");
    body["ids"] = json!(ids);
    assert_eq!(receiver.post(&body.to_string()).status, 200);
    let dead = || receiver.admin_get("/api/v1/sinks").json()[0]["dead"].clone();
    wait_until("all are dead", || dead() == 500);
    let ended = receiver.end("TERM");
    let count = |text: &str| ended.output.matches(text).count();
    // Ten a minute.
    assert!((10..=100).contains(&count("it is kept as a dead letter")), "{}", ended.output);
    assert_eq!((count("the sink has dead letters"), count("has no dead letters any more")), (1, 0), "{}", ended.output);

    let receiver = ended.home.start();
    receiver.wait_for_line("there still are some", |line| {
        line["message"].as_str().is_some_and(|text| text.starts_with("the sink has dead letters"))
            && line["dead"] == 500
    });
    let (code, _, error) = receiver.run(&["dead", "drop", "--sink", "crm", "--yes"]);
    assert_eq!(code, 0, "{error}");
    let line = receiver.wait_for_line("there are none", |line| {
        line["message"].as_str().is_some_and(|text| text.starts_with("the sink has no dead letters"))
    });
    assert_eq!((&line["level"], &line["sink"]), (&json!("INFO"), &json!("crm")));
    let output = receiver.end("TERM").output;
    assert_eq!(output.matches("the sink has no dead letters any more").count(), 1, "{output}");
}

#[test]
fn lines_are_written_by_the_level_of_their_part_and_none_for_what_is_answered_200() {
    let level = "[log]\nlevel = \"error,plugchat_receiver::service=info,plugchat_receiver::store=debug\"\n";
    let receiver = Receiver::start(&format!("[sinks]\n{level}"));
    for _ in 0..2 {
        assert_eq!(receiver.post(&callback("A", "SENT", START)).status, 200);
    }
    receiver.post("[]").problem(400);
    eventually("the store's debug line is there", || {
        (said(&receiver, "exact duplicate, known already") == 1).then_some(())
    });
    assert_eq!(said(&receiver, "callback not taken"), 0);
    receiver.stop();

    let receiver = Receiver::start("[sinks]\n[log]\nlevel = \"info,plugchat_receiver::http=debug\"\n");
    assert_eq!(receiver.post(&callback("A", "SENT", START)).status, 200);
    receiver.post("[]").problem(400);
    let output = receiver.end("TERM").output;
    let lines: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of_http: Vec<&Value> =
        lines.iter().filter(|line| line["target"].as_str().is_some_and(|target| target.contains("::http"))).collect();
    assert_eq!(of_http.len(), 1, "{output}");
    assert_eq!((&of_http[0]["message"], &of_http[0]["status"]), (&json!("callback not taken"), &json!(400)));
}
