//! `tail`: what it shows, and that it goes on where it was.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver as Lines, channel};

use serde_json::{Value, json};

use crate::fake_plugchat::{Behaviour, FakePlugchat};
use crate::support::{Home, PATIENCE, Receiver, callback, eventually, output_of, signal, terminal};

const START: i64 = 1_632_234_645_000;

/// A running `tail`. Dropping it kills it.
struct Tail {
    child: Child,
    lines: Lines<String>,
    remarks: Lines<String>,
}

impl Tail {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let lines = lines_of(child.stdout.take().expect("piped"));
        let remarks = lines_of(child.stderr.take().expect("piped"));
        Self { child, lines, remarks }
    }

    /// The next line on standard output.
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("another line")
    }

    /// The next line on standard output, as JSON.
    fn json(&self) -> Value {
        serde_json::from_str(&self.line()).expect("JSON")
    }

    /// The next line on standard error.
    fn remark(&self) -> String {
        self.remarks.recv_timeout(PATIENCE).expect("another remark")
    }

    fn wait(&mut self) -> ExitStatus {
        eventually("it ends", || self.child.try_wait().expect("it can be waited for"))
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(stream: impl std::io::Read + Send + 'static) -> Lines<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        // The test may be done with it already.
        BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
    });
    lines
}

/// `tail` against this receiver.
fn tail(receiver: &Receiver, arguments: &[&str]) -> Command {
    let mut command = receiver.home().command(&[&["tail"], arguments].concat());
    command.env("PLUGCHAT_RECEIVER__ADMIN__LISTEN", receiver.admin.to_string()).env("TZ", "America/Sao_Paulo");
    command
}

fn post(receiver: &Receiver, id: &str) {
    assert_eq!(receiver.post(&callback(id, "READ", START)).status, 200);
}

#[test]
fn it_shows_each_change_on_a_line_in_local_time_with_masked_numbers() {
    let receiver = Receiver::start("");
    let post = |id: &str, status: &str, phone: &str, participant: Option<&str>| {
        let body = json!({ "type": "MessageStatusCallback", "status": status, "ids": [id], "phone": phone, "momment": START,
            "participant": participant, "instanceId": "instance.id", "isGroup": phone.ends_with("-group") });
        assert_eq!(receiver.post(&body.to_string()).status, 200);
    };
    post("3EB0C431C26A1916E07E", "READ", "5544987651234", None);
    post("B", "PLAYED", "120363835109990214-group", Some("551143095355"));
    post("C\nD\u{1b}[2J", "other", "status@broadcast", Some("5511988887777"));
    let tail = Tail::start(tail(&receiver, &["--since", "1h"]));
    for (change, rest) in receiver.stored().iter().zip([
        "READ        advance   3EB0C431C26A1916E07E    55449****1234        direct  instance.id",
        "PLAYED      advance   B                       5511****5355         group   instance.id",
        "other       unranked  C\u{fffd}D\u{fffd}[2J                 55119****7777        story   instance.id",
    ]) {
        // Where there has been no daylight saving since 2019.
        let utc: jiff::Timestamp = change["received_at"].as_str().and_then(|text| text.parse().ok()).expect("a time");
        let local = (utc - jiff::SignedDuration::from_hours(3)).strftime("%Y-%m-%d %H:%M:%S").to_string();
        assert_eq!(tail.line(), format!("{local}  {rest}"));
    }
}

#[test]
fn statuses_have_colours_on_a_terminal_unless_somebody_wants_none() {
    let receiver = Receiver::start("");
    for status in ["SENT", "message_received", "READ", "PLAYED", "READ_BY_ME", "else"] {
        assert_eq!(receiver.post(&callback("A", status, START)).status, 200);
    }
    let shown = |no_color: &str| {
        let (mut terminal, end) = terminal();
        let mut command = tail(&receiver, &["--since", "1h"]);
        command.env("NO_COLOR", no_color).stdout(end).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let mut text = String::new();
        while text.matches('\n').count() < 6 {
            let mut some = [0; 4096];
            let count = terminal.read(&mut some).expect("it writes on");
            text.push_str(&String::from_utf8_lossy(&some[..count]));
        }
        child.kill().and_then(|()| child.wait()).expect("it runs until then");
        text
    };
    let text = shown("");
    let colours: Vec<_> = text
        .lines()
        .map(|line| line.split_once("\u{1b}[").and_then(|(_, rest)| rest.split_once('m')).map(|(sgr, _)| sgr))
        .collect();
    assert_eq!(colours, ["34", "36", "32", "35", "2", "2"].map(Some), "{text:?}");
    assert_eq!(text.matches("\u{1b}[0m").count(), 6, "{text:?}");
    assert!(!shown("1").contains('\u{1b}'));
}

#[test]
fn its_json_is_the_apis_an_object_a_line() {
    let receiver = Receiver::start("");
    post(&receiver, "A");
    let stored = receiver.stored();
    let tail = Tail::start(tail(&receiver, &["--json", "--since", "1h"]));
    assert_eq!(tail.json(), stored[0]);
    let pretty = "{\r\n\"type\": \"MessageStatusCallback\",\n\n\"status\": \"SENT\",\r\"ids\": [\"B\"], \"x\": \"\u{202e}\u{9b}\", \"n\": 1e400}";
    assert_eq!(receiver.post(pretty).status, 200);
    let line = tail.line();
    assert!(
        line.contains("1e400") && line.contains("\\u202e\\u009b") && line.contains("\"message_id\":\"B\""),
        "{line}"
    );
}

#[test]
fn it_begins_now_unless_it_is_told_since_when_and_shows_only_what_is_asked_for() {
    let receiver = Receiver::start("");
    let post = |id: &str, status: &str, instance: &str, phone: &str| {
        let body = json!({ "type": "MessageStatusCallback", "status": status, "ids": [id], "instanceId": instance,
            "phone": phone, "momment": START });
        assert_eq!(receiver.post(&body.to_string()).status, 200);
    };
    post("A", "READ", "one", "+55 11");
    post("B", "MESSAGE_READ", "two words&more", "22");
    post("C", "SENT", "one", "22");
    let second = receiver.stored()[1]["received_at"].as_str().expect("text").to_owned();
    for (arguments, ids) in [
        (["--since", "2020-01-01T00:00:00Z"].as_slice(), &["A", "B", "C"][..]),
        (&["--since", &second], &["B", "C"]),
        (&["--since", "10m", "--status", "read"], &["A", "B"]),
        (&["--since", "10m", "--instance", "two words&more"], &["B"]),
        (&["--since", "10m", "--phone", "+55 11"], &["A"]),
        (&["--since", "10m", "--phone", "22", "--status", "MESSAGE_SENT", "--instance", "one"], &["C"]),
    ] {
        let tail = Tail::start(tail(&receiver, &[&["--json"], arguments].concat()));
        let shown: Vec<_> = ids.iter().map(|_| tail.json()["message_id"].clone()).collect();
        assert!(shown == ids || arguments[1] == second && shown.contains(&json!("B")), "{arguments:?}: {shown:?}");
    }
    let now = Tail::start(tail(&receiver, &["--json"]));
    let mut posted = 0;
    let shown = eventually("it has begun", || {
        posted += 1;
        post(&format!("N{posted}"), "READ", "one", "22");
        now.lines.try_recv().ok()
    });
    assert!(shown.contains("\"message_id\":\"N"), "{shown}");
}

#[test]
fn over_restarts_and_kills_of_the_receiver_nothing_is_missing_and_nothing_comes_twice() {
    // An address that no other test takes a port of.
    let free = TcpListener::bind("127.0.77.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let mut receiver = Receiver::start(&format!("[admin]\nlisten = \"{free}\"\n"));
    let tail = Tail::start(tail(&receiver, &["--since", "1h", "--json"]));
    let mut shown = Vec::new();
    for round in 0..4 {
        for number in 0..30 {
            post(&receiver, &format!("{round}-{number}"));
            if number == 10 {
                // It has some of them, and others are on their way or not stored yet when the end comes.
                shown.push(tail.json());
            }
        }
        let home = if round % 2 == 0 { receiver.kill() } else { receiver.stop() };
        let (lost, was) = (tail.remark(), tail.json());
        assert!(lost.starts_with("the connection is lost (") && lost.contains("goes on after change "), "{lost}");
        shown.push(was);
        receiver = home.start();
        assert_eq!(tail.remark(), "connected again");
    }
    let stored = receiver.stored();
    assert_eq!(stored.len(), 120);
    while shown.len() < stored.len() {
        shown.push(tail.json());
    }
    assert_eq!(shown, stored);
    assert!(tail.lines.try_recv().is_err());
}

#[test]
fn it_asks_a_new_connection_for_what_comes_after_the_last_event_and_tells_of_gaps() {
    let stream = "retry: 1\nid: 7\n\nid: 9\nevent: gap\ndata: {\"after\":7,\"resumed_after\":9}\n\n\
                  id: 3\nevent: gap\ndata: {\"after\":9,\"resumed_after\":3}\n\nevent: other\ndata: ?\n\n: alive\nid: 12\n\nid: 13\n";
    let server = FakePlugchat::start(Behaviour::Always(200, "content-type: text/event-stream\r\n", stream.into()));
    let home = Home::new("");
    let mut command = home.command(&["tail", "--phone", "11"]);
    command.env("PLUGCHAT_RECEIVER__ADMIN__LISTEN", server.address.to_string());
    let tail = Tail::start(command);
    let unread = "the changes after 7 up to 9 are not there any more: retention has deleted them unread";
    let older = "the store ends with change 3, before 9: it is another one or an older one than before";
    let lost =
        "the connection is lost (the receiver has ended it); it goes on after change 12 as soon as there is a new one";
    for remark in [unread, older, lost, "connected again", unread] {
        assert_eq!(tail.remark(), remark);
    }
    let requests = server.requests();
    for (request, last_id) in requests.iter().zip([None, Some("12")]) {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/api/v1/changes?phone=11"));
        assert_eq!((request.header("accept"), request.header("last-event-id")), (Some("text/event-stream"), last_id));
    }
}

#[test]
fn it_ends_quietly_when_nobody_reads_on_even_if_nothing_happens_any_more() {
    let receiver = Receiver::start("");
    for id in ["A", "B", "C"] {
        post(&receiver, id);
    }
    for since in ["1h", "2999-01-01T00:00:00Z"] {
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        let mut command = tail(&receiver, &["--since", since]);
        command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        drop(command);
        drop(reader);
        let status = eventually("it ends", || child.try_wait().expect("it can be waited for"));
        let mut error = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut error).expect("text");
        assert_eq!((status.code(), error.as_str()), (Some(0), ""), "{since}");
    }
    let full = File::options().write(true).open("/dev/full").expect("it is always there");
    let output = tail(&receiver, &["--since", "1h"]).stdout(full).output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && error.contains("cannot write to standard output"), "{error}");
}

#[test]
fn an_interrupt_ends_it_as_it_ends_any_tail() {
    use std::os::unix::process::ExitStatusExt as _;
    let receiver = Receiver::start("");
    post(&receiver, "A");
    let mut tail = Tail::start(tail(&receiver, &["--since", "1h"]));
    tail.line();
    signal(tail.child.id(), "INT");
    // Which a shell calls 130.
    assert_eq!(tail.wait().signal(), Some(2));
}

#[test]
fn what_can_never_be_followed_is_an_error_that_says_what_to_do() {
    let token = "canary-token-77aa0b";
    let receiver = Receiver::start(&format!("[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"{token}\"\n"));
    post(&receiver, "A");
    let following = Tail::start(tail(&receiver, &["--since", "1h"]));
    assert!(following.line().contains("READ"), "the token is presented");
    receiver.home().configure("[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"another\"\n");
    let (code, text, error) = receiver.run(&["tail"]);
    assert_eq!((code, text.as_str()), (2, ""));
    assert!(error.contains("[admin]") && !error.contains("another") && !error.contains(token), "{error}");
    for wrong in [["tail", "--since", "yesterday"].as_slice(), &["tail", "now"], &["tail", "--status"]] {
        assert_eq!(receiver.run(wrong).0, 2, "{wrong:?}");
    }
    let admin = receiver.admin.to_string();
    let home = receiver.stop();
    let (code, _, error) = output_of(home.command(&["tail"]).env("PLUGCHAT_RECEIVER__ADMIN__LISTEN", &admin));
    assert!(code == 1 && error.contains(&admin) && error.contains("is it running"), "{code} {error}");
    for body in ["", "{\"changes\": [], \"next\": 0}"] {
        let other = FakePlugchat::start(Behaviour::Always(200, "content-type: application/json\r\n", body.into()));
        let mut command = home.command(&["tail"]);
        let (code, _, error) = output_of(command.env("PLUGCHAT_RECEIVER__ADMIN__LISTEN", other.address.to_string()));
        assert!(code == 1 && error.contains("are both of one version?"), "{code} {error}");
    }
}
