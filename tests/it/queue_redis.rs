//! Status changes reach a Redis stream in spite of everything, each message's in order, read back over a plain socket.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::broker::{Server, redis};
use crate::support::{JSON, Receiver, callback, connect, path, request, wait_until, write};

/// Pauses short enough for a test.
const QUICK: &str = "[sinks.stream.delivery]\nbackoff = { min = \"5ms\", max = \"50ms\" }\nstart = \"beginning\"\n";

const STATUSES: [&str; 4] = ["SENT", "RECEIVED", "READ", "PLAYED"];

const MOMENT: i64 = 1_632_234_645_000;

/// A sink that adds to the stream `changes`, and one that has nothing to do with it.
fn sinks(server: &Server, more: &str) -> String {
    let address = server.address();
    format!(
        "[sinks.stream.queue.redis]\nurl = \"redis://{address}\"\nstream = \"changes\"\n{more}{QUICK}[sinks.audit.log]\n"
    )
}

/// What the server answered.
#[derive(Debug, PartialEq)]
enum Answer {
    Text(String),
    Error(String),
    List(Vec<Answer>),
}

/// Has the server carry out a command, on a connection of its own.
fn tell(server: &Server, words: &[&str]) -> Answer {
    let mut stream = connect(server.address());
    let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    write(&mut stream, format!("*{}\r\n{words}", words.matches('$').count()).as_bytes());
    read(&mut BufReader::new(stream))
}

/// Reads an answer as RESP2 writes it.
fn read(stream: &mut BufReader<TcpStream>) -> Answer {
    let mut line = String::new();
    stream.read_line(&mut line).expect("it answers");
    let (kind, rest) = line.trim_end().split_at(1);
    match kind {
        "-" => Answer::Error(rest.to_owned()),
        "$" => {
            let mut text = vec![0; rest.parse::<usize>().expect("it is there") + 2];
            stream.read_exact(&mut text).expect("it is whole");
            text.truncate(text.len() - 2);
            Answer::Text(String::from_utf8(text).expect("it is UTF-8"))
        }
        "*" => Answer::List((0..rest.parse().expect("a number")).map(|_| read(stream)).collect()),
        _ => Answer::Text(rest.to_owned()),
    }
}

/// The bodies in the stream, in order. Each is an event of which the entry's other fields say the same.
fn events(server: &Server) -> Vec<Value> {
    let Answer::List(entries) = tell(server, &["XRANGE", "changes", "-", "+"]) else { panic!("it is a stream") };
    entries.into_iter().map(event).collect()
}

fn event(entry: Answer) -> Value {
    let Answer::List(entry) = entry else { panic!("{entry:?}") };
    let [_, Answer::List(fields)] = entry.as_slice() else { panic!("{entry:?}") };
    let text = |answer: &Answer| if let Answer::Text(text) = answer { text.clone() } else { panic!("{answer:?}") };
    let fields: BTreeMap<_, _> = fields.chunks(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
    let event: Value = serde_json::from_str(&fields["body"]).expect("it is JSON");
    for name in ["id", "status", "message_id"] {
        assert_eq!(event[name], fields[name].as_str());
    }
    event
}

fn text<'a>(event: &'a Value, key: &str) -> &'a str {
    event[key].as_str().expect("a text")
}

/// Each message's statuses as they first arrived.
fn first_arrivals(events: &[Value]) -> BTreeMap<String, Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut messages: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events.iter().filter(|event| seen.insert(text(event, "id").to_owned())) {
        messages.entry(text(event, "message_id").to_owned()).or_default().push(text(event, "status").to_owned());
    }
    messages
}

/// Posts the whole life of some messages, which must be answered 200.
fn post_lifecycles(receiver: SocketAddr, messages: Range<usize>) {
    for status in STATUSES {
        for message in messages.clone() {
            let body = callback(&format!("message-{message}"), status, MOMENT);
            assert_eq!(request(receiver, "POST", &path(), &JSON, body.as_bytes()).status, 200);
        }
    }
}

/// Where the sink stands.
fn standing(receiver: &Receiver, key: &str) -> Value {
    let sinks = receiver.admin_get("/api/v1/sinks").json();
    let sinks = sinks.as_array().expect("a list");
    sinks.iter().find(|sink| sink["name"] == "stream").expect("it is there")[key].clone()
}

#[test]
fn nothing_is_missing_however_often_the_server_is_killed() {
    const KILLS: usize = 5;
    const AT_ONCE: usize = 20;
    // It is started after the receiver.
    let mut server = redis::start();
    server.kill();
    let receiver = Receiver::start(&sinks(&server, ""));
    post_lifecycles(receiver.address, 0..AT_ONCE);
    wait_until("it is known to be away", || standing(&receiver, "state") == "away");
    server.start_again();
    wait_until("everything is there", || standing(&receiver, "lag") == 0);

    let is_over = AtomicBool::new(false);
    let posted = std::thread::scope(|scope| {
        let (address, is_over) = (receiver.address, &is_over);
        let load = scope.spawn(move || {
            let mut posted = AT_ONCE;
            while !is_over.load(Ordering::Relaxed) {
                post_lifecycles(address, posted..posted + AT_ONCE);
                posted += AT_ONCE;
            }
            posted
        });
        for _ in 0..KILLS {
            let delivered = || standing(&receiver, "delivered").as_u64().expect("a number");
            let before = delivered();
            wait_until("it takes more", || delivered() > before + 50);
            server.kill();
            wait_until("it is known to be away", || standing(&receiver, "state") == "away");
            server.start_again();
        }
        is_over.store(true, Ordering::Relaxed);
        load.join().expect("every callback is answered 200")
    });
    wait_until("everything is there", || standing(&receiver, "lag") == 0);
    let events = events(&server);
    let messages = first_arrivals(&events);
    assert_eq!(messages.len(), posted, "each message is there");
    for (message, statuses) in messages {
        assert_eq!(statuses, STATUSES, "{message}");
    }
    // What was on its way when the server was killed may be there twice: no more than there can be at once.
    let twice = events.len() - posted * STATUSES.len();
    assert!(twice <= (KILLS + 1) * 4 * 256, "{twice} twice");
    assert_eq!((standing(&receiver, "dead"), standing(&receiver, "deferred")), (0.into(), 0.into()));
    receiver.changes_on_the_log(posted * STATUSES.len());
    receiver.stop();
}

#[test]
fn while_its_memory_is_full_everything_waits_and_nobody_else_notices() {
    let server = redis::start();
    let receiver = Receiver::start(&sinks(&server, ""));
    post_lifecycles(receiver.address, 0..5);
    wait_until("everything is there", || standing(&receiver, "lag") == 0);
    assert_eq!(tell(&server, &["CONFIG", "SET", "maxmemory", "1"]), Answer::Text("OK".into()));
    post_lifecycles(receiver.address, 5..10);
    assert_eq!(receiver.changes_on_the_log(10 * STATUSES.len()).len(), 40);
    wait_until("it is known to be away", || standing(&receiver, "state") == "away");
    let error = standing(&receiver, "last_error");
    assert!(error.as_str().expect("a text").contains("OOM command not allowed"), "{error}");
    assert_eq!((standing(&receiver, "lag"), events(&server).len()), (20.into(), 20));
    assert_eq!(tell(&server, &["CONFIG", "SET", "maxmemory", "0"]), Answer::Text("OK".into()));
    wait_until("everything is there", || standing(&receiver, "lag") == 0);
    let events = events(&server);
    assert_eq!(events.len(), 40, "each once");
    for statuses in first_arrivals(&events).values() {
        assert_eq!(statuses, &STATUSES);
    }
    receiver.stop();
}

#[test]
fn what_is_refused_is_a_dead_letter_that_says_why_and_comes_in_when_that_is_repaired() {
    let server = redis::start();
    tell(&server, &["SET", "changes", "text"]);
    let receiver = Receiver::start(&sinks(&server, ""));
    post_lifecycles(receiver.address, 0..1);
    wait_until("they are dead", || standing(&receiver, "dead") == 4);
    let (code, list, _) = receiver.run(&["dead", "list", "--sink", "stream"]);
    assert_eq!(code, 0);
    assert_eq!(list.matches("the key is there, and is no stream").count(), 4, "{list}");
    tell(&server, &["DEL", "changes"]);
    let (code, said, _) = receiver.run(&["dead", "retry", "--sink", "stream"]);
    assert_eq!(code, 0, "{said}");
    wait_until("everything is there", || standing(&receiver, "dead") == 0 && standing(&receiver, "deferred") == 0);
    assert_eq!(events(&server).len(), 4);
    receiver.stop();
}

#[test]
fn neither_the_password_nor_the_user_is_ever_printed() {
    let server = redis::start_with("user canary-user on >canary-password-6e2f ~changes +xadd");
    let with = |password: &str| {
        let login = format!("redis://canary-user:{password}@");
        sinks(&server, "[log]\nlevel = \"trace\"\n").replace("redis://", &login)
    };
    for (password, key, value) in
        [("canary-password-6e2f", "lag", Value::from(0)), ("canary-password-wrong", "state", Value::from("away"))]
    {
        let receiver = Receiver::start(&with(password));
        post_lifecycles(receiver.address, 0..1);
        wait_until("it was tried", || standing(&receiver, key) == value);
        let mut printed = String::new();
        for arguments in [["check"].as_slice(), &["check", "--connect"], &["check", "--connect", "--json"], &["sinks"]]
        {
            let (_, text, error) = receiver.run(arguments);
            printed.push_str(&(text + &error));
        }
        assert!(printed.contains("into the stream changes at redis://127.0.0.1"), "{printed}");
        printed.push_str(&receiver.output());
        assert!(printed.contains("level trace"), "{printed}");
        assert!(!printed.contains("canary"), "{printed}");
        receiver.stop();
    }
}
