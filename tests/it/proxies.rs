//! Behind the proxies that there are files for: what callers see, also when the receiver is restarted.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::proxy::{KINDS, Kind, Proxy, exchange, in_the_receivers_place};
use crate::sockets::{hand_over, socket};
use crate::support::{
    Home, JSON, Receiver, SECRET, STORED, callback, path, read_answer, send_head, send_request, wait_until, write,
};

const MOMENT: i64 = 1_632_234_645_000;

#[test]
fn a_callback_arrives_over_https_and_is_answered_by_the_receiver() {
    for kind in KINDS {
        let receiver = Receiver::start(&format!("secrets = [\"{SECRET}\", \"a/secret%&{SECRET}\"]\n"));
        let proxy = Proxy::start(kind, receiver.address);
        let body = callback("A", "READ", MOMENT);
        assert_eq!(proxy.post(&body).body, STORED, "{kind:?}");
        assert_eq!(proxy.post(&body).body, r#"{"stored": 0, "duplicates": 1}"#, "{kind:?}");
        proxy.post_to("/message-status/wrong", &JSON, &body).problem(401);
        proxy.post_to("/elsewhere", &JSON, &body).problem(404);
        proxy.post("{").problem(400);
        let token = format!("/message-status?token={SECRET}");
        assert_eq!(proxy.post_to(&token, &JSON, &callback("B", "READ", MOMENT)).body, STORED, "{kind:?}");
        let encoded = format!("/message-status/a%2Fsecret%25%26{SECRET}");
        assert_eq!(proxy.post_to(&encoded, &JSON, &callback("C", "READ", MOMENT)).body, STORED, "{kind:?}");
        assert_eq!(receiver.stored().len(), 3);
    }
}

#[test]
fn the_callers_address_is_right_and_nobody_can_pretend_another() {
    const ALLOWED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
    for kind in KINDS {
        let receiver = Receiver::start("allow_from = [\"127.0.0.2/32\"]\ntrusted_proxies = [\"127.0.0.1/32\"]\n");
        let proxy = Proxy::start(kind, receiver.address);
        let post = |source: Ipv4Addr, headers: &[(&str, &str)]| {
            let mut stream = proxy.connect_from(source);
            let headers = [&JSON, headers].concat();
            send_request(&mut stream, "POST", &path(), &headers, callback("A", "READ", MOMENT).as_bytes());
            read_answer(&mut stream).status
        };
        let other = Ipv4Addr::new(127, 0, 0, 3);
        assert_eq!((post(ALLOWED, &[]), post(other, &[])), (200, 403), "{kind:?}");
        for forged in ["127.0.0.2", "127.0.0.2, 127.0.0.1", "127.0.0.1, 127.0.0.2", "\"127.0.0.2:80\""] {
            for header in ["x-forwarded-for", "X-Forwarded-For", "forwarded", "x-real-ip", "client-ip"] {
                assert_eq!(post(other, &[(header, forged)]), 403, "{kind:?}: {header}: {forged}");
            }
            let twice = [("x-forwarded-for", forged), ("x-forwarded-for", forged)];
            assert_eq!(post(other, &twice), 403, "{kind:?}: {forged}");
        }
        assert_eq!(post(ALLOWED, &[("x-forwarded-for", "127.0.0.3")]), 200, "{kind:?}");
        wait_until("the receiver's log has who was refused", || receiver.output().contains("127.0.0.3"));
    }
}

#[test]
fn what_comes_for_another_name_is_never_answered_as_if_it_were_stored() {
    for kind in KINDS {
        let receiver = Receiver::start("");
        let proxy = Proxy::start(kind, receiver.address);
        let mut stream = proxy.connect();
        let body = callback("A", "READ", MOMENT);
        let (start, length) = (format!("POST {} HTTP/1.1", path()), format!("content-length: {}", body.len()));
        let head = [&start, "host: another.example.com", "content-type: application/json", &length];
        send_head(&mut stream, &head);
        write(&mut stream, body.as_bytes());
        let answer = read_answer(&mut stream);
        assert_eq!(answer.status == 200, receiver.stored().len() == 1, "{kind:?}: {answer:?}");
    }
}

#[test]
fn of_several_receivers_behind_caddy_one_has_it_all_and_another_takes_over_when_it_is_gone() {
    let receivers = [Receiver::start(""), Receiver::start("")];
    let places = receivers.each_ref().map(|receiver| receiver.address.to_string()).join(" ");
    let proxy = Proxy::start_with(Kind::Caddy, &places, &[("{$STATUS_BALANCING:}", "fail_duration 5s")]);
    for number in 0..20 {
        assert_eq!(proxy.post(&callback(&format!("first-{number}"), "SENT", MOMENT)).status, 200);
    }
    let mut stored = receivers.each_ref().map(|receiver| receiver.stored().len());
    stored.sort_unstable();
    assert_eq!(stored, [0, 20], "the same URL, the same receiver");

    let [one, other] = receivers;
    let (busy, idle) = if one.stored().is_empty() { (other, one) } else { (one, other) };
    busy.kill();
    for number in 0..20 {
        assert_eq!(proxy.post(&callback(&format!("second-{number}"), "SENT", MOMENT)).status, 200);
    }
    assert_eq!(idle.stored().len(), 20);
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    for kind in KINDS {
        let receiver = Receiver::start("");
        let proxy = Proxy::start(kind, receiver.address);
        let body = callback("A", "READ", MOMENT).replace("READ", &"x".repeat(64 << 10));
        let mut whole = proxy.connect();
        send_request(&mut whole, "POST", &path(), &JSON, body.as_bytes());
        let mut in_chunks = proxy.connect();
        let start = format!("POST {} HTTP/1.1", path());
        send_head(
            &mut in_chunks,
            &[&start, "host: localhost", "content-type: application/json", "transfer-encoding: chunked"],
        );
        // It may answer and close before it has read all of it.
        let _ = in_chunks.write_all(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes());
        for mut stream in [whole, in_chunks] {
            let answer = read_answer(&mut stream);
            assert!(answer.status >= 400, "{kind:?}: {answer:?}");
        }
        assert!(receiver.stored().is_empty(), "{kind:?}");
        assert_eq!(proxy.post(&callback("A", "READ", MOMENT)).body, STORED, "{kind:?}");
    }
}

#[test]
fn a_connection_that_is_closed_under_a_callback_does_not_lose_it() {
    for kind in KINDS {
        let proxy = Proxy::start_with(kind, &in_the_receivers_place(answer_once), &[]);
        let mut stream = proxy.connect();
        for number in 0..10 {
            let answer = exchange(&mut stream, &callback(&number.to_string(), "READ", MOMENT));
            assert_eq!((answer.status, answer.body.as_str()), (200, "{}"), "{kind:?}: {number}: {answer:?}");
        }
    }
}

/// Answers a request, and closes when the next one is here.
fn answer_once(mut stream: TcpStream) -> Option<TcpStream> {
    read_request(&mut stream);
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    read_request(&mut stream);
    None
}

/// Reads to the end of a callback, or of the connection.
fn read_request(stream: &mut TcpStream) {
    let (mut request, mut bytes) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"}") {
        match stream.read(&mut bytes) {
            Ok(count @ 1..) => request.extend_from_slice(&bytes[..count]),
            _ => return,
        }
    }
}

/// How many callers there are, each with one connection for as long as the proxy keeps it.
const CALLERS: usize = 20;

#[test]
fn ten_thousand_callbacks_through_caddy_are_stored_over_restarts_on_a_socket_that_stays() {
    restart_under_load(Kind::Caddy, Some(&socket()), 10_000);
}

#[test]
fn ten_thousand_callbacks_through_nginx_are_stored_over_restarts_on_a_socket_that_stays() {
    restart_under_load(Kind::Nginx, Some(&socket()), 10_000);
}

#[test]
fn callbacks_through_caddy_are_stored_over_restarts_while_nobody_listens() {
    restart_under_load(Kind::Caddy, None, 2_000);
}

#[test]
fn callbacks_through_nginx_are_stored_over_restarts_while_nobody_listens() {
    restart_under_load(Kind::Nginx, None, 2_000);
}

/// Restarts the receiver three times while callers post this many callbacks. `public` is the socket that stays open.
fn restart_under_load(kind: Kind, public: Option<&TcpListener>, callbacks: usize) {
    let start = |home: Home, before: Option<SocketAddr>| {
        home.start_with(|command| {
            match (public, before) {
                (Some(public), _) => hand_over(command, &[("public", public)]),
                (None, Some(address)) => {
                    command.env("PLUGCHAT_RECEIVER__SERVER__LISTEN", address.to_string());
                }
                (None, None) => {}
            };
        })
    };
    let receiver = start(Home::new("[sinks]\n"), None);
    let address = receiver.address;
    let proxy = Proxy::start(kind, address);
    let answered = AtomicUsize::new(0);
    let receiver = std::thread::scope(|threads| {
        for caller in 0..CALLERS {
            let (proxy, answered) = (&proxy, &answered);
            threads.spawn(move || post_many(proxy, caller, callbacks / CALLERS, answered));
        }
        (1..=3).fold(receiver, |receiver, restart| {
            wait_until("the load is under way", || answered.load(Ordering::Relaxed) >= restart * callbacks / 4);
            start(receiver.stop(), Some(address))
        })
    });
    assert_eq!(answered.load(Ordering::Relaxed), callbacks);
    assert_eq!(receiver.stored().len(), callbacks, "each of them, and once");
}

/// Posts one caller's part of the load. Whatever happens, each callback is answered 200.
fn post_many(proxy: &Proxy, caller: usize, count: usize, answered: &AtomicUsize) {
    let mut stream = proxy.connect();
    for number in 0..count {
        let answer = exchange(&mut stream, &callback(&format!("{caller}-{number}"), "READ", MOMENT));
        assert_eq!(answer.status, 200, "{answer:?}");
        // Where a proxy had to post it twice.
        assert!([STORED, r#"{"stored": 0, "duplicates": 1}"#].contains(&answer.body.as_str()), "{answer:?}");
        if answer.header("connection") == Some("close") {
            stream = proxy.connect();
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
}
