//! Whoever follows the log by its stream of events misses nothing, gets nothing twice, and is in nobody's way.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use plugchat_receiver::service::STOPS_WITHIN;
use serde_json::{Value, json};

use crate::support::{
    Answer, JSON, Receiver, callback, connect, eventually, path, read_answer, request, send_head, send_request,
    wait_until,
};

const START: i64 = 1_632_234_645_000;

/// The most followers that a receiver takes.
const MAX_FOLLOWERS: usize = 128;

/// A block of a stream: the fields of an event, or of none.
#[derive(Debug, Default, PartialEq)]
struct Block {
    id: String,
    event: String,
    data: Value,
    /// How many lines its data came in.
    data_lines: usize,
}

/// A follower that reads when it is asked to.
struct Follower {
    stream: BufReader<TcpStream>,
}

impl Follower {
    /// Asks for the stream; the answer's head has come.
    fn start(admin: SocketAddr, query: &str, headers: &[&str]) -> Self {
        let mut stream = connect(admin);
        // HTTP/1.0, so that the events are not in chunks.
        let request = format!("GET /api/v1/changes?{query} HTTP/1.0");
        send_head(&mut stream, &[&[&request, "host: localhost", "accept: text/event-stream"], headers].concat());
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut head).expect("an answer"), 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.0 200 ") && head.contains("content-type: text/event-stream\r\n"), "{head}");
        Self { stream }
    }

    /// The next block; `None` at the end of the stream.
    fn block(&mut self) -> Option<Block> {
        let mut block = Block::default();
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Ok(0) => return None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                read => read.expect("a line in time"),
            };
            match line.trim_end_matches('\n').split_once(": ") {
                None if line == "\n" => return Some(block),
                Some(("id", id)) => id.clone_into(&mut block.id),
                Some(("event", event)) => event.clone_into(&mut block.event),
                Some(("data", data)) => {
                    block.data = serde_json::from_str(data).expect("JSON");
                    block.data_lines += 1;
                }
                Some(("retry" | "", _)) => {}
                _ => panic!("not a line of an event: {line:?}"),
            }
        }
    }

    /// The next event.
    fn event(&mut self) -> Block {
        loop {
            let block = self.block().expect("the stream goes on");
            if !block.event.is_empty() {
                return block;
            }
        }
    }

    /// The message ids of the next so many changes.
    fn messages(&mut self, count: usize) -> Vec<String> {
        let events = (0..count).map(|_| self.event());
        events.map(|event| event.data["message_id"].as_str().expect("a change").to_owned()).collect()
    }
}

/// What a request for a stream is answered that is not taken.
fn refusal(receiver: &Receiver, query: &str, headers: &[(&str, &str)]) -> Answer {
    let headers = [headers, &[("accept", "text/event-stream")]].concat();
    request(receiver.admin, "GET", &format!("/api/v1/changes?{query}"), &headers, b"")
}

fn post(receiver: &Receiver, id: &str) {
    assert_eq!(receiver.post(&callback(id, "READ", START)).status, 200);
}

/// Posts so many callbacks of 60 KiB: together they are more than the connection of a follower that reads nothing takes in.
fn post_large(receiver: &Receiver, count: usize) {
    let more = "x".repeat(60 << 10);
    let mut stream = connect(receiver.address);
    for number in 0..count {
        let body =
            json!({ "type": "MessageStatusCallback", "status": "SENT", "ids": [format!("L{number}")], "more": more });
        send_request(&mut stream, "POST", &path(), &JSON, body.to_string().as_bytes());
        assert_eq!(read_answer(&mut stream).status, 200);
    }
}

#[test]
fn each_change_is_an_event_with_its_number_and_the_object_of_the_list() {
    let receiver = Receiver::start("");
    let mut follower = Follower::start(receiver.admin, "", &[]);
    let first = follower.block().expect("its place comes at once");
    assert_eq!(first, Block { id: "0".into(), ..Block::default() });
    post(&receiver, "A");
    // Kept as it came, with ends of lines between its values.
    let pretty = "{\r\n\"type\":\r\"MessageStatusCallback\",\n\n\"status\": \"SENT\",\r\n\r\n\"ids\": [\"B\", \"C\"],\n\"id\": \"x\"}";
    assert_eq!(receiver.post(pretty).status, 200);
    let stored = eventually("all is stored", || Some(receiver.stored()).filter(|stored| stored.len() == 3));
    for change in stored {
        let event = follower.event();
        assert_eq!((&event.data, event.event.as_str(), event.data_lines), (&change, "change", 1));
        assert_eq!(event.id, change["seq"].to_string());
    }
}

#[test]
fn a_follower_begins_now_or_where_it_says_and_goes_on_after_its_last_event() {
    let receiver = Receiver::start("");
    let messages =
        |query: &str, headers: &[&str], count| Follower::start(receiver.admin, query, headers).messages(count);
    let mut now = vec![];
    for id in ["A", "B", "C"] {
        now.push(Follower::start(receiver.admin, "", &[]));
        post(&receiver, id);
    }
    for (mut follower, messages) in now.into_iter().zip([&["A", "B", "C"][..], &["B", "C"], &["C"]]) {
        assert_eq!(follower.messages(messages.len()), messages);
    }
    let second = receiver.stored()[1]["received_at"].as_str().expect("text").to_owned();
    assert_eq!(messages("after=0", &[], 3), ["A", "B", "C"]);
    assert_eq!(messages("after=2", &[], 1), ["C"]);
    assert_eq!(messages("since=2020-01-01T00:00:00Z", &[], 3), ["A", "B", "C"]);
    assert_eq!(messages(&format!("since={second}"), &[], 2).last().expect("two"), "C");
    // As a browser does: the same URL again, and where it was.
    for query in ["after=0", "since=2020-01-01T00:00:00Z", ""] {
        assert_eq!(messages(query, &["last-event-id: 2"], 1), ["C"], "{query}");
    }
    let mut tomorrow = Follower::start(receiver.admin, "since=2999-01-01T00:00:00Z", &[]);
    assert_eq!(tomorrow.block().expect("its place").id, "3", "a time to come is now");

    for wrong in ["after=x", "since=yesterday", "after=1&since=2020-01-01T00:00:00Z", "limit=5", "unknown=1"] {
        refusal(&receiver, wrong, &[]).problem(400);
    }
    for wrong in ["x", "1.5", "-", ""] {
        refusal(&receiver, "", &[("last-event-id", wrong)]).problem(400);
    }
    let listed = receiver.admin_get(&format!("/api/v1/changes?since={second}&limit=1")).json();
    assert_eq!(listed["changes"][0]["received_at"], second.as_str(), "since is for lists as well");
}

#[test]
fn filters_apply_on_the_server_and_the_place_moves_all_the_same() {
    let receiver = Receiver::start("");
    for (id, status, instance, phone) in [
        ("A", "SENT", "one", "11"),
        ("B", "MESSAGE_READ", "one", "22"),
        ("C", "READ", "two", "22"),
        ("D", "SENT", "two", "11"),
    ] {
        let body = json!({ "type": "MessageStatusCallback", "status": status, "ids": [id], "instanceId": instance,
            "phone": phone, "momment": START });
        assert_eq!(receiver.post(&body.to_string()).status, 200);
    }
    for (query, messages) in [
        ("status=read", &["B", "C"][..]),
        ("instance=two", &["C", "D"]),
        ("phone=11", &["A", "D"]),
        ("status=READ&phone=22&instance=two", &["C"]),
    ] {
        let mut follower = Follower::start(receiver.admin, &format!("after=0&{query}"), &[]);
        assert_eq!(follower.messages(messages.len()), messages, "{query}");
    }
}

#[test]
fn what_retention_has_deleted_unread_is_told() {
    let receiver = Receiver::start("[store.sqlite]\nretention = \"1ms\"\n");
    for id in ["A", "B", "C"] {
        post(&receiver, id);
    }
    wait_until("all is deleted", || receiver.stored().is_empty());
    let mut follower = Follower::start(receiver.admin, "", &["last-event-id: 1"]);
    let event = follower.event();
    assert_eq!((event.event.as_str(), event.id.as_str()), ("gap", "3"));
    assert_eq!(event.data, json!({ "after": 1, "resumed_after": 3 }));
    let mut follower = Follower::start(receiver.admin, "", &["last-event-id: 100"]);
    assert_eq!(follower.event().data, json!({ "after": 100, "resumed_after": 3 }), "an older store is told, too");
    let mut follower = Follower::start(receiver.admin, "since=2020-01-01T00:00:00Z", &[]);
    post(&receiver, "D");
    // By the time that it is read it may be gone as well.
    let event = follower.event();
    assert!(event.data["message_id"] == "D" || event.data == json!({ "after": 3, "resumed_after": 4 }), "{event:?}");
}

#[test]
fn a_hundred_followers_get_everything_at_once_and_a_slow_one_in_its_own_time() {
    const LARGE: usize = 200;
    let receiver = Receiver::start("");
    let mut slow = Follower::start(receiver.admin, "", &[]);
    post_large(&receiver, LARGE);
    let mut followers: Vec<_> = (0..100).map(|_| Follower::start(receiver.admin, "", &[])).collect();
    let small: Vec<_> = (0..20).map(|number| format!("S{number}")).collect();
    for id in &small {
        post(&receiver, id);
    }
    for follower in &mut followers {
        assert_eq!(follower.messages(small.len()), small);
    }
    assert_eq!(receiver.run(&["healthcheck"]).0, 0);
    let large: Vec<_> = (0..LARGE).map(|number| format!("L{number}")).collect();
    assert_eq!(slow.messages(LARGE + small.len()), [large, small].concat());
}

#[test]
fn one_follower_too_many_is_told_so_and_others_still_get_their_answers() {
    let receiver = Receiver::start("");
    let mut followers: Vec<_> = (0..MAX_FOLLOWERS).map(|_| Follower::start(receiver.admin, "", &[])).collect();
    let problem = refusal(&receiver, "", &[]).problem(503);
    assert_eq!(problem["detail"], "there are as many followers as may be");
    for path in ["/livez", "/readyz", "/api/v1/changes", "/api/v1/sinks"] {
        assert_eq!(receiver.admin_get(path).status, 200, "{path}");
    }
    followers.pop();
    eventually("the place of the one that left is free", || {
        // What is written to it shows that it has gone.
        post(&receiver, "A");
        post(&receiver, &receiver.stored().len().to_string());
        let mut stream = connect(receiver.admin);
        send_head(&mut stream, &["GET /api/v1/changes HTTP/1.0", "host: localhost", "accept: text/event-stream"]);
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("an answer");
        status.ends_with(b"200").then_some(())
    });
}

#[test]
fn followers_see_the_last_change_and_do_not_hold_a_stop_up() {
    let receiver = Receiver::start("");
    let mut followers: Vec<_> = (0..20).map(|_| Follower::start(receiver.admin, "status=READ", &[])).collect();
    let _slow = Follower::start(receiver.admin, "", &[]);
    post_large(&receiver, 200);
    post(&receiver, "last");
    let signalled = Instant::now();
    let ended = receiver.end("TERM");
    let took = signalled.elapsed();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
    assert!(!ended.output.contains("in time"), "nothing was waited for in vain: {}", ended.output);
    // The bound is of the receiver's own waiting; a machine that is busy with other things adds to it.
    assert!(took < STOPS_WITHIN * 2, "it took {took:?}");
    for follower in &mut followers {
        assert_eq!(follower.messages(1), ["last"]);
        while let Some(block) = follower.block() {
            assert_eq!(block.event, "", "a heartbeat, and then the end");
        }
    }
}
