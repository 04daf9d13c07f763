//! Secrets, tokens and phone numbers are put in everywhere; then all that was printed is searched for them.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::broker::nats;
use crate::support::{
    JSON, Receiver, connect, eventually, output_of, read_answer, request, send_head, send_request, signal, wait_until,
    write,
};

/// With a character that a URL has to encode.
const SECRET: &str = "canary/secret&41f0c2b7d9";
const OLD_SECRET: &str = "canary-older-secret-5d0e";
const ADMIN_TOKEN: &str = "canary-admin-token-9b1c";
const PLUGCHAT_TOKEN: &str = "canary-plugchat-token-e77a";
const INSTANCE_TOKEN: &str = "canary-z-api-token-08f3";

/// Whose numbers the bodies have: chats, participants, and numbers in fields that are not known.
const PHONES: [&str; 5] = ["5544987651234", "551143095355", "120363835109990214", "241320502831241", "5511988887777"];

fn start(phone: &str) -> Receiver {
    Receiver::start(&format!(
        "secrets = [\"{SECRET}\", \"{OLD_SECRET}\"]\n\
         limits = {{ body = \"4KiB\", body_timeout = \"500ms\", header_timeout = \"500ms\", in_flight = 2 }}\n\
         [admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"{ADMIN_TOKEN}\"\n\
         [plugchat]\ntoken = \"{PLUGCHAT_TOKEN}\"\n\
         [log]\nlevel = \"trace\"\n\
         [sinks.audit.log]\nphone = \"{phone}\"\n"
    ))
}

fn encoded(secret: &str) -> String {
    utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string()
}

fn body(message_id: &str, phone: &str, participant: Option<&str>) -> String {
    json!({
        "type": "MessageStatusCallback", "status": "READ", "ids": [message_id], "phone": phone, "participant": participant,
        "instanceId": "instance.id", "momment": 1_632_234_645_000_i64, "contact": { "number": PHONES[4] }
    })
    .to_string()
}

/// One callback of each kind of chat, each twice, so that duplicates are logged as well.
fn post_good_ones(receiver: &Receiver) {
    let group = format!("{}-group", PHONES[2]);
    let lid = format!("{}@lid", PHONES[3]);
    let bodies = [
        body("A", PHONES[0], None),
        body("B", &group, Some(PHONES[1])),
        body("C", &lid, None),
        body("D", "status@broadcast", Some(PHONES[0])),
    ];
    for (path, bearer) in [
        (format!("/message-status/{}", encoded(SECRET)), None),
        (format!("/message-status?token={}", encoded(OLD_SECRET)), None),
        ("/message-status".into(), Some(format!("Bearer {SECRET}"))),
    ] {
        let mut headers = vec![JSON[0], ("z-api-token", INSTANCE_TOKEN), ("referer", path.as_str())];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        for body in &bodies {
            assert_eq!(receiver.post_to(&path, &headers, body.as_bytes()).status, 200);
        }
    }
}

/// Every kind of refusal, with the secret as nearly right as it can be wrong, or right.
fn provoke_refusals(receiver: &Receiver) {
    let right = format!("/message-status/{}", encoded(SECRET));
    let good = body("E", PHONES[0], None);
    let post = |path: &str, headers: &[(&str, &str)], body: &str| receiver.post_to(path, headers, body.as_bytes());
    for wrong in [&SECRET[1..], &format!("{SECRET}x"), &SECRET.to_uppercase(), &format!("{SECRET}/{SECRET}")] {
        let path = format!("/message-status/{}?token={}", encoded(wrong), encoded(wrong));
        post(&path, &[JSON[0], ("authorization", &format!("Bearer {wrong}x"))], &good).problem(401);
    }
    post(&format!("{right}/"), &JSON, &good).problem(404);
    post(&format!("{right}/{}", encoded(SECRET)), &JSON, &good).problem(404);
    post(&format!("/{SECRET}?token={SECRET}"), &JSON, &good).problem(404);
    request(receiver.address, "GET", &right, &JSON, b"").problem(405);
    post(&right, &[("content-type", SECRET)], &good).problem(415);
    post(&right, &JSON, &good.repeat(40)).problem(413);
    post(&right, &JSON, &good[..good.len() - 1]).problem(400);
    post(&right, &JSON, &format!("\"{SECRET} {}\"", PHONES[0])).problem(400);
    post(&right, &JSON, &format!("{good}{good}")).problem(400);
    for (field, value) in [
        ("type", json!(PHONES[0])),
        ("type", json!(SECRET)),
        ("status", json!([PHONES[0], SECRET])),
        ("ids", json!([5_544_987_651_234_i64])),
        ("phone", json!(5_544_987_651_234_i64)),
        ("participant", json!([PHONES[1]])),
        ("isGroup", json!(PHONES[0])),
        ("momment", json!(format!("{}{SECRET}", PHONES[0]))),
    ] {
        let mut wrong: serde_json::Value = serde_json::from_str(&good).expect("JSON");
        wrong[field] = value;
        post(&right, &JSON, &wrong.to_string()).problem(422);
    }

    // Not HTTP at all, and headers without end.
    let mut stream = connect(receiver.address);
    write(&mut stream, format!("{SECRET} {SECRET}\r\n{SECRET}\r\n\r\n").as_bytes());
    assert_eq!(read_answer(&mut stream).status, 400);
    let mut stream = connect(receiver.address);
    write(&mut stream, format!("POST {right} HTTP/1.1\r\nhost: {SECRET}").as_bytes());
    read_answer(&mut stream).problem(408);

    // A body that stops half-way; while two are held, a third is one too many.
    let held: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = connect(receiver.address);
            let (start, length) = (format!("POST {right} HTTP/1.1"), format!("content-length: {}", good.len()));
            send_head(
                &mut stream,
                &[&start, "host: x", "content-type: application/json", "expect: 100-continue", &length],
            );
            assert_eq!(read_answer(&mut stream).status, 100);
            write(&mut stream, &good.as_bytes()[..good.len() - 5]);
            stream
        })
        .collect();
    let mut third = connect(receiver.address);
    send_request(&mut third, "POST", &right, &JSON, good.as_bytes());
    assert!([503, 200].contains(&read_answer(&mut third).status));
    for mut stream in held {
        read_answer(&mut stream).problem(408);
    }
}

/// The operator's API with the right token and with wrong ones.
fn ask_the_operators_api(receiver: &Receiver) {
    let wrong = format!("Bearer {}", &ADMIN_TOKEN[1..]);
    let right = format!("Bearer {ADMIN_TOKEN}");
    for path in [
        "/metrics",
        "/api/v1/instances",
        "/api/v1/changes",
        "/api/v1/rejected",
        "/api/v1/messages/A",
        "/api/v1/sinks",
        "/readyz",
        "/none",
    ] {
        let path = format!("{path}?phone={}&token={ADMIN_TOKEN}", PHONES[0]);
        for bearer in [&wrong, &right] {
            request(receiver.admin, "GET", &path, &[("authorization", bearer)], b"");
        }
    }
}

/// What the commands print that have no reason to show a secret, or a number.
fn run_commands(receiver: &Receiver) -> String {
    let mut printed = String::new();
    let mut run = |arguments: &[&str]| {
        let (_, text, error) = receiver.run(arguments);
        printed.push_str(&(text + &error));
    };
    for arguments in [
        ["check"].as_slice(),
        &["check", "--connect"],
        &["check", "--connect", "--json"],
        &["healthcheck"],
        &["show", "A"],
        &["show", "B"],
        &["show", "C"],
        &["show", "D"],
        &["show", SECRET.split('/').next_back().expect("a part")],
        &["rejected", "list"],
        &["rejected", "list", "--json"],
        &["rejected", "retry", "--all", "--dry-run"],
        &["rejected", "retry", "--all"],
        &["rejected", "drop", "1"],
        &["erase", "--phone", PHONES[0], "--dry-run"],
        &["erase", "--phone", PHONES[0], "--dry-run", "--json"],
        &["erase", "--phone", PHONES[1]],
        &["erase", "--phone", &format!("{}x", PHONES[0])],
        &["erase", "--phone", "511988887777"],
        &["serve"],
        &["check", "--unknown"],
    ] {
        run(arguments);
    }
    let with = |name: &str, value: &str| {
        let (_, text, error) = output_of(receiver.home().command(&["check"]).env(name, value));
        text + &error
    };
    printed.push_str(&with("PLUGCHAT_RECEIVER__SERVER__SECRETS", SECRET));
    printed.push_str(&with("PLUGCHAT_RECEIVER__ADMIN__TOKEN", &format!("[\"{ADMIN_TOKEN}\"]")));
    printed.push_str(&with("PLUGCHAT_RECEIVER__PLUGCHAT__ENDPOINT", &format!("https://{PLUGCHAT_TOKEN}@x:y/")));
    printed.push_str(&with("PLUGCHAT_RECEIVER__PLUGCHAT__ENDPOINT", &format!("https://{PLUGCHAT_TOKEN}@x.example/")));
    printed
}

/// Nothing of this may be printed anywhere.
fn assert_no_secret_in(printed: &str) {
    for secret in [SECRET, OLD_SECRET, ADMIN_TOKEN, PLUGCHAT_TOKEN, INSTANCE_TOKEN] {
        // A part is a leak as well, and the encoded form has to be looked for without its case.
        let tail = &secret[secret.len() - 8..];
        for leak in [secret.to_owned(), encoded(secret), tail.to_owned()] {
            let place = printed.to_lowercase().find(&leak.to_lowercase());
            assert_eq!(place.map(|at| &printed[at.saturating_sub(200)..]), None, "{leak}");
        }
    }
}

fn assert_no_phone_in(printed: &str) {
    for phone in PHONES {
        assert_eq!(printed.find(phone).map(|at| &printed[at.saturating_sub(200)..]), None, "{phone}");
    }
}

/// All that a receiver prints from start to end.
fn printed_by(mut receiver: Receiver) -> String {
    signal(receiver.pid(), "TERM");
    assert_eq!(receiver.wait().code(), Some(0));
    eventually("its last line is read", || {
        let output = receiver.output();
        output.contains("\"stopped\"").then_some(output)
    })
}

#[test]
fn at_the_lowest_level_nothing_that_is_printed_has_a_secret_or_a_phone_number_in_it() {
    let receiver = start("masked");
    post_good_ones(&receiver);
    provoke_refusals(&receiver);
    ask_the_operators_api(&receiver);
    let commands = run_commands(&receiver);
    assert!(commands.contains("to 55449****1234") && commands.contains("is it in use"), "{commands}");
    let log = printed_by(receiver);
    for sign in ["callback not taken", "\"level\":\"DEBUG\"", "55449****1234", "12036****0214-group", "\"status\":422"]
    {
        assert!(log.contains(sign), "the log was to have {sign}:\n{log}");
    }
    for printed in [&log, &commands] {
        assert_no_secret_in(printed);
        assert_no_phone_in(printed);
    }
}

#[test]
fn what_a_nats_server_is_given_is_printed_nowhere() {
    const PASSWORD: &str = "canary-nats/password-77c1";
    let user = |password: &str| format!("canary-nats-user:{}", encoded(password));
    let server = nats::start_with(&format!("authorization {{ user: canary-nats-user, password: \"{PASSWORD}\" }}"));
    let sink = |name: &str, user: &str| {
        let url = format!("nats://{user}@{}", server.address());
        let stream = "subject = \"s.{instance_id}\"\ncreate_stream = { name = \"S\" }";
        format!("[sinks.{name}.queue.nats]\nurl = \"{url}\"\n{stream}\n")
    };
    let (right, wrong) = (sink("right", &user(PASSWORD)), sink("wrong", &user(&format!("{PASSWORD}x"))));
    let receiver = Receiver::start(&format!("[log]\nlevel = \"trace,async_nats=trace\"\n{right}{wrong}"));
    assert_eq!(receiver.post(&body("A", PHONES[0], None)).status, 200);
    wait_until("one takes it and the other is away", || {
        let sinks = receiver.admin_get("/api/v1/sinks").json();
        sinks[0]["delivered"] == 1 && sinks[1]["state"] == "away"
    });
    let mut printed = String::new();
    for arguments in [["check"].as_slice(), &["check", "--connect"], &["sinks"], &["sinks", "--json"], &["show", "A"]] {
        let (_, text, error) = receiver.run(arguments);
        printed.push_str(&(text + &error));
    }
    assert!(
        printed.contains("s.* goes to the stream S") && printed.contains("the server refuses the user"),
        "{printed}"
    );
    printed.push_str(&printed_by(receiver));
    for secret in [PASSWORD, &encoded(PASSWORD), "password-77c1", "canary-nats-user"] {
        let place = printed.find(secret);
        assert_eq!(place.map(|at| &printed[at.saturating_sub(200)..]), None, "{secret}");
    }
    assert_no_phone_in(&printed);
}

#[test]
fn what_shows_a_whole_body_when_asked_to_still_shows_no_secret() {
    let receiver = start("masked");
    post_good_ones(&receiver);
    let wrong = body("E", PHONES[0], None).replace("READ", "");
    receiver.post_to(&format!("/message-status/{}", encoded(SECRET)), &JSON, wrong.as_bytes()).problem(422);
    for arguments in
        [["show", "A", "--json"].as_slice(), &["rejected", "show", "1"], &["rejected", "show", "1", "--json"]]
    {
        let (code, text, error) = receiver.run(arguments);
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(text.contains(PHONES[0]), "{text}");
        assert_no_secret_in(&text);
    }
}

#[test]
fn a_hashed_number_is_the_same_each_time_and_no_number() {
    let receiver = start("hashed");
    post_good_ones(&receiver);
    let lines = receiver.changes_on_the_log(4);
    assert_eq!(lines[0]["phone"], lines[3]["participant"], "one person has one hash");
    assert_ne!(lines[0]["phone"], lines[1]["participant"]);
    for hash in [&lines[0]["phone"], &lines[1]["phone"], &lines[1]["participant"]] {
        let hash = hash.as_str().expect("text");
        assert!(hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{hash}");
    }
    let log = printed_by(receiver);
    assert_no_secret_in(&log);
    assert_no_phone_in(&log);
    assert!(!log.contains("1234\""), "not even its end");
}

#[test]
fn a_full_number_is_there_only_when_asked_for_and_a_secret_never() {
    let receiver = start("full");
    post_good_ones(&receiver);
    let lines = receiver.changes_on_the_log(4);
    assert_eq!((&lines[0]["phone"], &lines[1]["participant"]), (&json!(PHONES[0]), &json!(PHONES[1])));
    let log = printed_by(receiver);
    assert_no_secret_in(&log);
    for line in log.lines().filter(|line| !line.contains("\"target\":\"status\"")) {
        assert_no_phone_in(line);
    }
}

#[test]
fn for_people_the_log_hides_the_same() {
    let home = start("masked").stop();
    let mut command = home.command(&["serve"]);
    command.env("PLUGCHAT_RECEIVER__LOG__FORMAT", "pretty").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let (mut printed, mut address) = (String::new(), None);
    while address.is_none() {
        let line = lines.next().expect("it says where it listens");
        let found = line.split_once("receiving callbacks").and_then(|(_, fields)| fields.split_once("address="));
        address = found.and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        printed.push_str(&line);
    }
    let address = address.expect("the loop ends with one");
    let path = format!("/message-status/{}", encoded(SECRET));
    for (path, status) in [(&path, 200), (&format!("{path}x"), 401)] {
        let body = body("A", &format!("{}-group", PHONES[2]), Some(PHONES[1]));
        assert_eq!(request(address, "POST", path, &JSON, body.as_bytes()).status, status);
    }
    signal(child.id(), "TERM");
    let (rest, ended) = (lines.collect::<Vec<_>>().join("\n"), child.wait_with_output().expect("it ends"));
    printed.push_str(&rest);
    printed.push_str(&String::from_utf8_lossy(&ended.stderr));
    assert!(printed.contains("READ advance 5511****5355") && printed.contains("callback not taken"), "{printed}");
    assert_no_secret_in(&printed);
    assert_no_phone_in(&printed);
}
