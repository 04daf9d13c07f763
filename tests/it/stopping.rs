//! What a stop does to what is under way.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use plugchat_receiver::service::STOPS_WITHIN;

use crate::support::{
    Answer, Home, JSON, PATIENCE, Receiver, STORED, after, callback, connect, path, read_answer, send_head,
    send_request, signal, through, try_read_answer, wait_until, write,
};

#[test]
fn sigterm_under_load_answers_everything_in_flight_and_loses_nothing() {
    stop_under_load("TERM");
}

#[test]
fn sigint_under_load_answers_everything_in_flight_and_loses_nothing() {
    stop_under_load("INT");
}

#[test]
fn sighup_under_load_answers_everything_in_flight_and_loses_nothing() {
    stop_under_load("HUP");
}

#[test]
fn whoever_wants_it_to_outlive_the_terminal_is_obeyed() {
    let receiver = Home::new("").start_with(|command| after("trap '' HUP", command));
    signal(receiver.pid(), "HUP");
    assert_eq!(receiver.post(&callback("A", "READ", 1)).body, STORED);
    receiver.stop();
}

/// What became of one request of the load.
struct Outcome {
    message_id: String,
    /// When the last of its bytes had been written.
    written: Instant,
    /// `None`: the connection ended before the first byte of an answer. Never in the middle of one.
    answer: Option<Answer>,
}

fn stop_under_load(signal_name: &str) {
    // The tests themselves may have been told to outlive their terminal, which is passed on.
    let default = format!("--default-signal={signal_name}");
    let receiver = Home::new("").start_with(|command| through(&["env", &default], command));
    let answered = AtomicUsize::new(0);
    let (signalled, outcomes) = std::thread::scope(|threads| {
        let loading: Vec<_> = (0..8)
            .map(|number| {
                let (address, answered) = (receiver.address, &answered);
                // Half of them keep their connection, half take a new one for each request.
                threads.spawn(move || load(address, number, number % 2 == 0, answered))
            })
            .collect();
        wait_until("the load is under way", || answered.load(Ordering::Relaxed) >= 100);
        let signalled = Instant::now();
        signal(receiver.pid(), signal_name);
        let outcomes: Vec<Outcome> =
            loading.into_iter().flat_map(|thread| thread.join().expect("a caller ended in a surprise")).collect();
        (signalled, outcomes)
    });
    let ended = receiver.ended();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);

    for Outcome { message_id, written, answer } in &outcomes {
        match answer {
            Some(answer) => assert!([200, 503].contains(&answer.status), "{message_id}: {answer:?}"),
            None => assert!(*written > signalled, "written before the signal, so it is answered: {message_id}"),
        }
    }
    let receiver = ended.home.start();
    let stored = texts(&receiver.stored(), "message_id");
    for Outcome { message_id, answer, .. } in &outcomes {
        match answer.as_ref().map(|answer| answer.status) {
            Some(200) => assert!(stored.contains(message_id), "acknowledged and not there: {message_id}"),
            Some(_) => assert!(!stored.contains(message_id), "refused and there all the same: {message_id}"),
            None => {}
        }
    }
    receiver.stop();
}

/// Posts until the receiver is gone.
fn load(address: SocketAddr, number: usize, keeps: bool, answered: &AtomicUsize) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut kept: Option<TcpStream> = None;
    loop {
        let Some(mut stream) = kept.take().or_else(|| TcpStream::connect(address).ok()) else { return outcomes };
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        let message_id = format!("{number}-{}", outcomes.len());
        send_request(&mut stream, "POST", &path(), &JSON, callback(&message_id, "SENT", 1_632_234_645_000).as_bytes());
        let written = Instant::now();
        let answer = answer_or_nothing(&mut stream);
        if answer.is_some() {
            answered.fetch_add(1, Ordering::Relaxed);
        }
        kept = answer
            .as_ref()
            .is_some_and(|answer| keeps && answer.header("connection") != Some("close"))
            .then_some(stream);
        outcomes.push(Outcome { message_id, written, answer });
    }
}

/// A whole answer, or none of it.
fn answer_or_nothing(stream: &mut TcpStream) -> Option<Answer> {
    let mut first = [0];
    match stream.peek(&mut first) {
        Ok(0) => None,
        Ok(_) => Some(try_read_answer(stream).expect("an answer that has begun is whole")),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
        Err(error) => panic!("neither an answer nor an end: {error}"),
    }
}

#[test]
fn what_was_sent_before_the_signal_is_answered_on_new_and_on_kept_connections() {
    let receiver = Receiver::start("");
    let body = |n: usize| callback(&format!("message-{n}"), "SENT", 1_632_234_645_000);
    let mut kept: Vec<TcpStream> = (0..20).map(|_| connect(receiver.address)).collect();
    for (n, stream) in kept.iter_mut().enumerate() {
        send_request(stream, "POST", &path(), &JSON, body(n).as_bytes());
        assert_eq!(read_answer(stream).status, 200);
    }
    // Stopped, it can take nothing in: all of this waits in the system when the signal comes.
    signal(receiver.pid(), "STOP");
    let new = (0..20).map(|_| connect(receiver.address));
    let mut all: Vec<TcpStream> = kept.into_iter().chain(new).collect();
    for (n, stream) in all.iter_mut().enumerate() {
        send_request(stream, "POST", &path(), &JSON, body(100 + n).as_bytes());
    }
    signal(receiver.pid(), "TERM");
    signal(receiver.pid(), "CONT");
    for (n, stream) in all.iter_mut().enumerate() {
        let answer = answer_or_nothing(stream).unwrap_or_else(|| panic!("no answer on connection {n}"));
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let ended = receiver.ended();
    assert_eq!(ended.status.code(), Some(0));
    let receiver = ended.home.start();
    assert_eq!(receiver.stored().len(), 20 + 40);
    receiver.stop();
}

#[test]
fn half_sent_requests_idle_connections_and_an_unread_log_do_not_hold_a_stop_up() {
    for signal_name in ["TERM", "INT"] {
        let receiver = Receiver::start("");
        let posted = receiver.block_the_log();

        let mut idle = connect(receiver.address);
        send_request(&mut idle, "POST", &path(), &JSON, callback("idle", "SENT", 1_632_234_645_000).as_bytes());
        assert_eq!(read_answer(&mut idle).status, 200);
        let mut silent = connect(receiver.address);
        let mut half_head = connect(receiver.address);
        write(&mut half_head, b"POST /message-status/");
        let body = callback("late", "SENT", 1_632_234_645_000);
        let half_body = half_sent(receiver.address, &body);
        let mut completed = half_sent(receiver.address, &body);
        // An answer from each side of them: the receiver has seen them all.
        assert_eq!(receiver.post(&callback("after", "SENT", 1_632_234_645_000)).status, 200);

        let signalled = Instant::now();
        signal(receiver.pid(), signal_name);
        wait_until("it says that it is not ready", || {
            let ready = receiver.admin_get("/readyz");
            ready.status == 503 && ready.json()["checks"]["serving"]["ok"] == false
        });
        write(&mut completed, &body.as_bytes()[10..]);
        assert_eq!(read_answer(&mut completed).body, STORED);
        for (what, stream) in [("headers", half_head), ("a body", half_body)] {
            let answer = read_answer(&mut { stream });
            answer.problem(503);
            assert_eq!(answer.header("connection"), Some("close"), "{what}: {answer:?}");
        }
        for (what, stream) in [("an idle one", &mut idle), ("a silent one", &mut silent)] {
            assert_eq!(stream.read(&mut [0]).unwrap_or_else(|error| panic!("{what}: {error}")), 0, "{what}");
        }
        let ended = receiver.ended();
        let took = signalled.elapsed();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
        // The bound is of the receiver's own waiting; a machine that is busy with other things adds to it.
        assert!(took < STOPS_WITHIN * 2, "it took {took:?}");

        // What the log did not get in time it gets now.
        let mut seen = texts(&ended.changes_on_the_log(), "id");
        let receiver = ended.home.start();
        assert_eq!(receiver.stored().len(), posted + 3);
        wait_until("everything is delivered", || receiver.admin_get("/api/v1/sinks").json()[0]["lag"] == 0);
        let ended = receiver.end("TERM");
        seen.extend(texts(&ended.changes_on_the_log(), "id"));
        assert_eq!(seen.len(), posted + 3);
    }
}

/// A request of which half the body is there.
fn half_sent(address: SocketAddr, body: &str) -> TcpStream {
    let mut stream = connect(address);
    let request = format!("POST {} HTTP/1.1", path());
    let length = format!("content-length: {}", body.len());
    send_head(&mut stream, &[&request, "host: localhost", "content-type: application/json", &length]);
    write(&mut stream, &body.as_bytes()[..10]);
    stream
}

/// The values of a field.
fn texts(changes: &[serde_json::Value], field: &str) -> BTreeSet<String> {
    changes.iter().map(|change| change[field].as_str().expect("a string").to_owned()).collect()
}

#[test]
fn an_unread_log_that_is_full_to_the_last_line_does_not_hold_a_stop_up() {
    let receiver = Receiver::start("[log]\nlevel = \"debug\"");
    receiver.block_the_log();
    // More lines of the program's own log than wait in memory: each duplicate is one.
    for _ in 0..30 {
        receiver.block_the_log();
    }
    let signalled = Instant::now();
    let ended = receiver.end("TERM");
    let took = signalled.elapsed();
    assert_eq!(ended.status.code(), Some(0));
    assert!(took < STOPS_WITHIN * 2, "it took {took:?}");
}

#[test]
fn no_new_connection_is_taken_while_it_stops() {
    let receiver = Receiver::start("");
    let body = callback("last", "SENT", 1_632_234_645_000);
    let mut open = half_sent(receiver.address, &body);
    assert_eq!(receiver.post(&callback("first", "SENT", 1_632_234_645_000)).status, 200);
    signal(receiver.pid(), "TERM");
    wait_until("nobody is let in", || TcpStream::connect(receiver.address).is_err());
    write(&mut open, &body.as_bytes()[10..]);
    assert_eq!(read_answer(&mut open).status, 200);
    let ended = receiver.ended();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(Home::start(ended.home).stored().len(), 2);
}
