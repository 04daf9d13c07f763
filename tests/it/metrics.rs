//! What is exported for Prometheus: the names and labels that were promised, counted right; and the dashboard and alerts that use them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::destination::{Destination, Reply};
use crate::support::{
    DOCUMENTED, Home, JSON, Receiver, callback, connect, path, read_answer, repository, request, send_head,
    send_request, wait_until, write,
};

const START: i64 = 1_632_234_645_000;

/// One scrape: each series as it is written, and its value.
fn scrape(receiver: &Receiver) -> BTreeMap<String, f64> {
    let lines = exposition(receiver);
    let samples = lines.lines().filter(|line| !line.starts_with('#'));
    let parse = |line: &str| {
        let (series, value) = line.rsplit_once(' ').expect("a series and its value");
        (series.to_owned(), value.parse().expect("a number"))
    };
    samples.map(parse).collect()
}

fn exposition(receiver: &Receiver) -> String {
    let answer = receiver.admin_get("/metrics");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/plain; version=0.0.4")));
    answer.body
}

/// Those series of a metric that are not 0, without its name.
fn counted(scraped: &BTreeMap<String, f64>, name: &str) -> BTreeMap<String, f64> {
    let of_it = scraped.iter().filter(|(series, value)| series.starts_with(&format!("{name}{{")) && **value != 0.0);
    of_it.map(|(series, value)| (series[name.len()..].to_owned(), *value)).collect()
}

fn map(expected: &[(&str, f64)]) -> BTreeMap<String, f64> {
    expected.iter().map(|(series, value)| ((*series).to_owned(), *value)).collect()
}

/// Runs `promtool` on this input; what it says when it is not content.
fn promtool(arguments: &[&str], input: &str) -> Result<(), String> {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool is installed: scripts/deps test");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if output.status.success() { Ok(()) } else { Err(said) }
}

/// A receiver that has something to say by every metric: sinks that deliver and that don't, and callbacks.
fn busy() -> (Receiver, Destination) {
    let destination = Destination::start(|event, _| Reply::Status(if event["status"] == "READ" { 400 } else { 200 }));
    let receiver = Receiver::start(&format!("{}[sinks.audit.log]\n", destination.sink("crm")));
    for body in DOCUMENTED {
        assert_eq!(receiver.post(body).status, 200);
    }
    wait_until("all is delivered or dead", || {
        let scraped = scrape(&receiver);
        ["audit", "crm"].iter().all(|sink| scraped[&format!("plugchat_sink_lag_changes{{sink=\"{sink}\"}}")] == 0.0)
    });
    (receiver, destination)
}

#[test]
fn what_is_exported_has_the_promised_names_and_labels_and_nothing_for_promtool_to_say() {
    let (receiver, _destination) = busy();
    let text = exposition(&receiver);
    promtool(&["check", "metrics"], &text).unwrap_or_else(|said| panic!("{said}\n{text}"));
    let exported = Exported::of(&text);
    for (name, labels) in [
        ("plugchat_ack_seconds", ["le"].as_slice()),
        ("plugchat_callbacks_total", &["outcome", "reason"]),
        ("plugchat_commit_seconds", &["le"]),
        ("plugchat_instance_silent", &["instance"]),
        ("plugchat_last_callback_timestamp_seconds", &["instance"]),
        ("plugchat_sender_lag_seconds", &[]),
        ("plugchat_sink_attempts_total", &["outcome", "sink"]),
        ("plugchat_sink_dead_letters", &["sink"]),
        ("plugchat_sink_deferred", &["sink"]),
        ("plugchat_sink_delivered_total", &["sink"]),
        ("plugchat_sink_lag_changes", &["sink"]),
        ("plugchat_sink_oldest_undelivered_seconds", &["sink"]),
        ("plugchat_sink_state", &["sink", "state"]),
        ("plugchat_status_changes_total", &["status", "transition"]),
        ("plugchat_store_bytes", &[]),
        ("plugchat_store_max_bytes", &[]),
    ] {
        let found: Vec<&str> = exported.labels(name).collect();
        assert_eq!(found, labels, "{name}");
    }
    assert_eq!(exported.families().len(), 16, "{:?}", exported.families());
}

#[test]
fn every_callback_is_counted_by_what_became_of_it() {
    let limits = "limits = { body = \"1KiB\", body_timeout = \"300ms\", header_timeout = \"300ms\", in_flight = 1 }\n";
    let receiver = Receiver::start(limits);
    let good = callback("A", "READ", START);
    assert_eq!([receiver.post(&good).status, receiver.post(&good).status], [200, 200]);
    request(receiver.address, "POST", "/elsewhere", &JSON, b"{}").problem(404);
    request(receiver.address, "GET", &path(), &[], b"").problem(405);
    receiver.post_to("/message-status/wrong", &JSON, good.as_bytes()).problem(401);
    receiver.post_to("/message-status", &JSON, good.as_bytes()).problem(401);
    receiver.post_to(&path(), &[("content-type", "text/plain")], good.as_bytes()).problem(415);
    receiver.post(&good.repeat(10)).problem(413);
    receiver.post("[]").problem(400);
    receiver.post(&good.replace("ids", "idz")).problem(422);
    receiver.post(r#"{"type": "DeliveryCallback"}"#).problem(422);
    let head = [&format!("POST {} HTTP/1.1", path()), "host: x", JSON_HEADER, "transfer-encoding: chunked"];
    let mut stream = connect(receiver.address);
    send_head(&mut stream, &head);
    write(&mut stream, b"no length\r\n");
    read_answer(&mut stream).problem(400);
    let mut headers = connect(receiver.address);
    write(&mut headers, b"POST / HTTP/1.1\r\n");
    read_answer(&mut headers).problem(408);
    let mut held = connect(receiver.address);
    send_head(&mut held, &[&head[..3], &["expect: 100-continue", "content-length: 20"]].concat());
    assert_eq!(read_answer(&mut held).status, 100);
    receiver.post(&good).problem(503);
    read_answer(&mut held).problem(408);

    let scraped = scrape(&receiver);
    let expected = [
        (r#"{outcome="accepted",reason="known"}"#, 1.0),
        (r#"{outcome="accepted",reason="new"}"#, 1.0),
        (r#"{outcome="refused",reason="broken_off"}"#, 1.0),
        (r#"{outcome="refused",reason="content_type"}"#, 1.0),
        (r#"{outcome="refused",reason="method"}"#, 1.0),
        (r#"{outcome="refused",reason="not_an_object"}"#, 1.0),
        (r#"{outcome="refused",reason="path"}"#, 1.0),
        (r#"{outcome="refused",reason="secret"}"#, 2.0),
        (r#"{outcome="refused",reason="slow"}"#, 2.0),
        (r#"{outcome="refused",reason="too_large"}"#, 1.0),
        (r#"{outcome="rejected",reason="fields"}"#, 1.0),
        (r#"{outcome="rejected",reason="other_type"}"#, 1.0),
        (r#"{outcome="unavailable",reason="in_flight"}"#, 1.0),
    ];
    assert_eq!(counted(&scraped, "plugchat_callbacks_total"), map(&expected));
    assert_eq!(scraped["plugchat_ack_seconds_count"], 2.0, "the time of those answered 200");
    assert!(scraped["plugchat_commit_seconds_count"] >= 2.0);
    for histogram in ["plugchat_ack_seconds", "plugchat_commit_seconds"] {
        for bound in ["0.0001", "10"] {
            assert!(scraped.contains_key(&format!("{histogram}_bucket{{le=\"{bound}\"}}")), "{histogram} {bound}");
        }
    }
}

const JSON_HEADER: &str = "content-type: application/json";

#[test]
fn what_the_configuration_keeps_out_or_lets_in_is_counted_too() {
    let receiver = Receiver::start("allow_from = [\"203.0.113.0/24\"]\n");
    receiver.post(&callback("A", "READ", START)).problem(403);
    let refused = [(r#"{outcome="refused",reason="address"}"#, 1.0)];
    assert_eq!(counted(&scrape(&receiver), "plugchat_callbacks_total"), map(&refused));
    let receiver = Receiver::start("other_types = \"accept\"\nlimits = { connections = 1 }\n");
    assert_eq!(receiver.post(r#"{"type": "DeliveryCallback"}"#).status, 200);
    let turned_away = || counted(&scrape(&receiver), "plugchat_callbacks_total");
    let _held = connect(receiver.address);
    wait_until("one is too many", || {
        let mut stream = connect(receiver.address);
        send_request(&mut stream, "GET", "/", &[], b"");
        read_answer(&mut stream).status == 503
    });
    let counted = turned_away();
    assert_eq!(counted[r#"{outcome="accepted",reason="other_type"}"#], 1.0);
    assert!(counted[r#"{outcome="unavailable",reason="connections"}"#] >= 1.0, "{counted:?}");
}

#[test]
fn status_changes_are_counted_by_status_and_transition_and_unknown_ones_together() {
    let receiver = Receiver::start("");
    for (id, status, at) in [
        ("A", "SENT", START),
        ("A", "MESSAGE_READ", START),
        ("A", "read", START + 1000),
        ("A", "RECEIVED", START),
        ("A", "RECEIVED", START),
        ("A", "READ_BY_ME", START),
        ("B", "PLAYED", START),
        ("B", "ANSWERED", START),
        ("C", "other", START),
    ] {
        assert_eq!(receiver.post(&callback(id, status, at)).status, 200);
    }
    let expected = [
        (r#"{status="PLAYED",transition="advance"}"#, 1.0),
        (r#"{status="READ",transition="advance"}"#, 1.0),
        (r#"{status="READ",transition="repeat"}"#, 1.0),
        (r#"{status="READ-SELF",transition="unranked"}"#, 1.0),
        (r#"{status="RECEIVED",transition="late"}"#, 1.0),
        (r#"{status="SENT",transition="advance"}"#, 1.0),
        (r#"{status="other",transition="unranked"}"#, 2.0),
    ];
    let scraped = scrape(&receiver);
    assert_eq!(counted(&scraped, "plugchat_status_changes_total"), map(&expected));
    // The moments are of 2021.
    assert!(scraped["plugchat_sender_lag_seconds"] > 1e8, "{scraped:?}");
}

#[test]
fn a_sinks_metrics_say_what_the_api_says_of_it() {
    let destination = Destination::start(|event, times| match event["message_id"].as_str() {
        Some("refused") => Reply::Status(400),
        Some("second-time") if times == 1 => Reply::Status(500),
        _ => Reply::Status(200),
    });
    let nobody = "[sinks.nobody.forward]\nurl = \"http://127.0.0.1:9/\"\n";
    let backoff = "[sinks.crm.delivery]\nbackoff = { min = \"10ms\", max = \"20ms\" }\n";
    let receiver = Receiver::start(&format!("{}{backoff}{nobody}", destination.sink("crm")));
    for id in ["A", "refused", "second-time", "B"] {
        assert_eq!(receiver.post(&callback(id, "SENT", START)).status, 200);
    }
    let sink = |name: &str| {
        let sinks = receiver.admin_get("/api/v1/sinks").json();
        sinks.as_array().expect("a list").iter().find(|sink| sink["name"] == name).expect("it is there").clone()
    };
    wait_until("one sink is done, and the other away", || {
        let crm = sink("crm");
        crm["delivered"] == 3 && crm["lag"] == 0 && crm["deferred"] == 0 && sink("nobody")["state"] == "away"
    });
    let scraped = scrape(&receiver);
    for (name, state) in [("crm", "delivering"), ("nobody", "away")] {
        let told = sink(name);
        for (metric, key) in [
            ("delivered_total", "delivered"),
            ("lag_changes", "lag"),
            ("deferred", "deferred"),
            ("dead_letters", "dead"),
        ] {
            let series = format!("plugchat_sink_{metric}{{sink=\"{name}\"}}");
            assert_eq!(Some(scraped[&series]), told[key].as_f64(), "{series}");
        }
        for possible in ["delivering", "failing", "paused", "away", "held"] {
            let series = format!("plugchat_sink_state{{sink=\"{name}\",state=\"{possible}\"}}");
            assert_eq!(scraped[&series], f64::from(u8::from(possible == state)), "{series}");
        }
    }
    let attempts = counted(&scraped, "plugchat_sink_attempts_total");
    for (outcome, count) in [("delivered", 3.0), ("refused", 1.0), ("failed", 1.0)] {
        assert_eq!(attempts[&format!("{{outcome=\"{outcome}\",sink=\"crm\"}}")], count, "{attempts:?}");
    }
    assert!(attempts[r#"{outcome="away",sink="nobody"}"#] >= 1.0, "{attempts:?}");
    assert_eq!(scraped[r#"plugchat_sink_oldest_undelivered_seconds{sink="crm"}"#], 0.0);
    wait_until("what waits grows older", || {
        scrape(&receiver)[r#"plugchat_sink_oldest_undelivered_seconds{sink="nobody"}"#] > 0.0
    });
    assert_eq!(scraped["plugchat_store_max_bytes"], 10.0 * f64::from(1 << 30));
    assert!(scraped["plugchat_store_bytes"] >= 4096.0, "{scraped:?}");
}

#[test]
fn the_metrics_are_for_those_who_may_use_the_api() {
    let receiver = Receiver::start("");
    let with = |headers: &[&str]| {
        let mut stream = connect(receiver.admin);
        send_head(&mut stream, &[&["GET /metrics HTTP/1.1"], headers].concat());
        read_answer(&mut stream)
    };
    assert_eq!(with(&["host: 127.0.0.1:8081"]).status, 200);
    with(&["host: made-to-resolve-here.example"]).problem(403);
    with(&["host: localhost", "origin: https://example.com"]).problem(403);
    let receiver = Receiver::start("[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"canary-metrics-token\"\n");
    receiver.admin_get("/metrics").problem(401);
    let bearer = [("authorization", "Bearer canary-metrics-token")];
    assert_eq!(request(receiver.admin, "GET", "/metrics", &bearer, b"").status, 200);
    receiver.post_to("/metrics", &[], b"").problem(404);
}

/// What a scrape has: each name with its labels and their values.
struct Exported(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Exported {
    fn of(text: &str) -> Self {
        let mut names: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let series = line.rsplit_once(' ').expect("a series and its value").0;
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let known = names.entry(name.to_owned()).or_default();
            for (label, _, value) in matchers(labels.trim_end_matches('}')) {
                known.entry(label).or_default().insert(value);
            }
        }
        Self(names)
    }

    /// The metrics, a histogram's series together.
    fn families(&self) -> BTreeSet<&str> {
        let is_histogram = |name: &str| self.0.contains_key(&format!("{name}_bucket"));
        let family = |name: &'_ str| {
            ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .filter(|name| is_histogram(name))
                .map(str::len)
        };
        self.0.keys().map(|name| family(name).map_or(name.as_str(), |length| &name[..length])).collect()
    }

    fn labels(&self, family: &str) -> impl Iterator<Item = &str> {
        let series = self.0.get(family).or_else(|| self.0.get(&format!("{family}_bucket")));
        series.unwrap_or_else(|| panic!("no {family}")).keys().map(String::as_str)
    }

    /// That everything which `text` selects of the receiver is here; how many metrics it names.
    fn assert_has_all_of(&self, text: &str) -> usize {
        let mut named = 0;
        for (at, _) in text.match_indices("plugchat_") {
            let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
            let end = text[at..].find(|c| !is_name(c)).map_or(text.len(), |length| at + length);
            let name = &text[at..end];
            let labels = self.0.get(name).unwrap_or_else(|| panic!("no {name} is exported"));
            named += 1;
            let Some(selector) = text[end..].strip_prefix('{') else { continue };
            for (label, operator, value) in matchers(selector.split_once('}').expect("it is closed").0) {
                if label == "job" {
                    continue;
                }
                let values = labels.get(&label).unwrap_or_else(|| panic!("{name} has no label {label}"));
                for one in value.split('|').filter(|_| operator.starts_with('=')) {
                    assert!(values.contains(one), "{name} has no {label} {one}: {values:?}");
                }
            }
        }
        for list in text.split("by (").skip(1) {
            for label in list.split_once(')').expect("it is closed").0.split(", ") {
                self.assert_has_label(label);
            }
        }
        named
    }

    fn assert_has_label(&self, label: &str) {
        let is_there = label == "job" || self.0.values().any(|labels| labels.contains_key(label));
        assert!(is_there, "no metric has the label {label}");
    }
}

/// The labels, operators and values between braces. None of ours have a comma or a quote in them.
fn matchers(text: &str) -> Vec<(String, String, String)> {
    let matcher = |text: &str| {
        let (label, value) = text.split_once('"').expect("a quoted value");
        let name = label.trim_end_matches(['=', '!', '~']);
        (name.to_owned(), label[name.len()..].to_owned(), value.trim_end_matches('"').to_owned())
    };
    text.split(',').filter(|part| !part.is_empty()).map(matcher).collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_alerts_use_what_is_exported_and_do_what_they_say() {
    let (receiver, _destination) = busy();
    let alerts = read("deploy/alerts.yml");
    let exported = Exported::of(&exposition(&receiver));
    assert!(exported.assert_has_all_of(&alerts) >= 10);
    for label in alerts.split("$labels.").skip(1) {
        exported.assert_has_label(label.split(' ').next().expect("a name"));
    }
    let file = |path: &str| repository(path).display().to_string();
    promtool(&["check", "rules", &file("deploy/alerts.yml")], "").unwrap_or_else(|said| panic!("{said}"));
    let fixture = "tests/it/fixtures/alerts.yml";
    promtool(&["test", "rules", &file(fixture)], "").unwrap_or_else(|said| panic!("{said}"));
    let tested = read(fixture);
    for alert in alerts.split("- alert: ").skip(1).filter_map(|rest| rest.lines().next()) {
        assert!(tested.contains(&format!("alertname=\"{alert}\"")), "{alert} is not tested");
    }
}

#[test]
fn the_dashboard_uses_what_is_exported() {
    let (receiver, _destination) = busy();
    let exported = Exported::of(&exposition(&receiver));
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana-dashboard.json")).expect("JSON");
    let targets: Vec<&Value> = dashboard["panels"]
        .as_array()
        .expect("a list")
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .collect();
    let mut named = BTreeSet::new();
    let mut rules = String::from("groups: [{name: dashboard, rules: [");
    for target in targets {
        let (expr, legend) = (target["expr"].as_str().expect("text"), target["legendFormat"].as_str().expect("text"));
        exported.assert_has_all_of(expr);
        for label in legend.split("{{").skip(1) {
            exported.assert_has_label(label.split_once("}}").expect("it is closed").0);
        }
        named.extend(exported.0.keys().filter(|name| expr.contains(name.as_str())));
        let expr = expr.replace("$__rate_interval", "5m").replace("$job", "plugchat-receiver");
        rules.push_str(&format!("{{record: a:b, labels: {{n: \"{}\"}}, expr: {}}}, ", named.len(), json!(expr)));
    }
    assert!(named.len() >= 15, "it shows nearly everything: {named:?}");
    let home = Home::bare();
    let file = home.config();
    std::fs::write(&file, rules + "]}]").expect("it can be written");
    promtool(&["check", "rules", "--lint=none", &file.display().to_string()], "")
        .unwrap_or_else(|said| panic!("{said}"));
    let variable = &dashboard["templating"]["list"][1]["definition"];
    exported.assert_has_all_of(variable.as_str().expect("text"));
}
