//! Behind the proxies that there are files for: what callers and their logs see.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::proxy::{KINDS, Kind, Proxy, exchange};
use crate::sockets::{hand_over, socket};
use crate::support::{
    Home, JSON, Receiver, SECRET, STORED, callback, path, read_answer, send_head, send_request, wait_until, write,
};

const MOMENT: i64 = 1_632_234_645_000;

#[test]
fn a_callback_arrives_over_https_and_is_answered_by_the_receiver() {
    for kind in KINDS {
        let receiver = Receiver::start("");
        let proxy = Proxy::start(kind, receiver.address);
        let body = callback("A", "READ", MOMENT);
        assert_eq!(proxy.post(&body).body, STORED, "{kind:?}");
        assert_eq!(proxy.post(&body).body, r#"{"stored": 0, "duplicates": 1}"#, "{kind:?}");
        proxy.post_to("/message-status/wrong", &JSON, &body).problem(401);
        proxy.post_to("/elsewhere", &JSON, &body).problem(404);
        proxy.post("{").problem(400);
        let token = format!("/message-status?token={SECRET}");
        assert_eq!(proxy.post_to(&token, &JSON, &callback("B", "READ", MOMENT)).body, STORED, "{kind:?}");
        assert_eq!(receiver.stored().len(), 2);
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

/// What callers may send along that is nobody's business.
const INSTANCE_TOKEN: &str = "canary-z-api-token-08f3";

#[test]
fn no_log_of_a_proxy_has_the_secret_in_it_whatever_goes_wrong() {
    for kind in KINDS {
        // Everything that takes its time takes less of it.
        let changes: &[(&str, &str)] = match kind {
            Kind::Caddy => &[("10s", "500ms"), ("60s", "500ms"), ("lb_try_duration 30s", "lb_try_duration 500ms")],
            Kind::Nginx => &[("10s", "500ms"), ("60s", "500ms"), ("resolver_timeout 1s", "resolver_timeout 10ms")],
        };
        let receiver = Receiver::start("");
        let proxy = Proxy::start_with(kind, &receiver.address.to_string(), changes);
        provoke_refusals(&proxy);
        let mut logs = proxy.end();

        let nobody = socket().local_addr().expect("it is bound").to_string();
        // Of this kind of trouble nginx speaks at its second highest level.
        let nothing = if kind == Kind::Nginx { "unix:/not/there" } else { "unix//not/there" };
        let broken: [fn(TcpStream) -> Option<TcpStream>; 4] = [hang_up, say_nothing, say_nonsense, break_off];
        for place in [nobody, nothing.to_owned()].into_iter().chain(broken.map(in_the_receivers_place)) {
            let proxy = Proxy::start_with(kind, &place, changes);
            let mut stream = proxy.connect();
            send_secrets(&mut stream, &path(), &callback("A", "READ", MOMENT));
            read_anything(&mut stream);
            logs.push_str(&proxy.end());
        }

        for status in [200, 401, 404, 405, 422, 502, 504] {
            let sign = match kind {
                Kind::Caddy => format!("\"status\":{status}"),
                Kind::Nginx if status == 502 => " 503 receiver=502".to_owned(),
                Kind::Nginx => format!(" {status} receiver="),
            };
            assert!(logs.contains(&sign), "{kind:?}: the logs were to have {sign}:\n{logs}");
        }
        for leak in [SECRET, &SECRET[SECRET.len() - 8..], INSTANCE_TOKEN, "5544999999999"] {
            let place = logs.find(leak).map(|at| &logs[at.saturating_sub(300)..]);
            assert_eq!(place, None, "{kind:?}: {leak}");
        }
    }
}

/// Requests of all kinds that are not taken, and one that is, each with the secret in it.
fn provoke_refusals(proxy: &Proxy) {
    let good = callback("A", "READ", MOMENT);
    let large = good.replace("READ", &"x".repeat(70_000));
    let right = path();
    for (path, body) in [
        (&right, good.as_str()),
        (&format!("/{SECRET}"), &good),
        (&right, &good[1..]),
        (&right, "{}"),
        (&right, &large),
    ] {
        let mut stream = proxy.connect();
        send_secrets(&mut stream, path, body);
        read_answer(&mut stream);
    }
    let start = format!("POST {right} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n");
    let chunked = format!("{start}transfer-encoding: chunked\r\n\r\n");
    for raw in [
        format!("POST {right}x HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        format!("GET {right} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        format!("{chunked}20000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x20000)),
        format!("{chunked}no number\r\n"),
        format!("{start}content-length: many\r\n\r\n"),
        format!("{start}content-length: 1\r\ncontent-length: 2\r\n\r\n"),
        format!("{start}transfer-encoding: {SECRET}\r\n\r\n"),
        format!("{start}a b: {SECRET}\r\n\r\n"),
        format!("{start}a: {}\r\n\r\n", "x".repeat(2 << 20)),
        format!("POST {right} HTTP/1.1\r\n\r\n"),
        format!("POST {right} HTTP/9.9\r\nhost: localhost\r\n\r\n"),
        format!("POST {right} {right} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        format!("POST {right}/../%zz HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        format!("POST {right}{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(40_000)),
        format!("POST {right} HTTP/1.1\r\nhost: {SECRET}\r\n\r\n"),
        format!("{SECRET}\r\n\r\n"),
        // Headers that don't end.
        start.clone(),
    ] {
        let mut stream = proxy.connect();
        // It may answer and close before it has read all of it.
        let _ = stream.write_all(raw.as_bytes());
        read_anything(&mut stream);
    }
    // A body that doesn't: nginx ends it. Caddy waits for as long as the caller does.
    let mut stream = proxy.connect();
    write(&mut stream, format!("{start}content-length: 100\r\n\r\n{{").as_bytes());
    if proxy.kind == Kind::Nginx {
        read_anything(&mut stream);
    }
    drop(stream);
    // Without TLS.
    let mut stream = proxy.connect_plainly();
    send_secrets(&mut stream, &right, &good);
    read_anything(&mut stream);
}

/// A request with secrets wherever there can be one.
fn send_secrets(stream: &mut impl Write, path: &str, body: &str) {
    let (path, bearer) = (format!("{path}?token={SECRET}"), format!("Bearer {SECRET}"));
    let headers = [
        JSON[0],
        ("authorization", &bearer),
        ("cookie", SECRET),
        ("referer", &path),
        ("user-agent", SECRET),
        ("z-api-token", INSTANCE_TOKEN),
    ];
    send_request(stream, "POST", &path, &headers, body.as_bytes());
}

/// Reads until something has come, or nothing will.
fn read_anything(stream: &mut impl Read) {
    // How it ends is the proxy's own affair.
    let _ = stream.read(&mut [0; 1 << 16]);
}

/// Listens where the receiver would, and does this with every connection; what it returns is kept open.
fn in_the_receivers_place(behave: fn(TcpStream) -> Option<TcpStream>) -> String {
    let listener = socket();
    let address = listener.local_addr().expect("it is bound").to_string();
    // It ends with the tests.
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().flatten() {
            kept.extend(behave(stream));
        }
    });
    address
}

fn hang_up(_: TcpStream) -> Option<TcpStream> {
    None
}

fn say_nothing(stream: TcpStream) -> Option<TcpStream> {
    Some(stream)
}

fn say_nonsense(stream: TcpStream) -> Option<TcpStream> {
    say(stream, b"\0nonsense\r\n\r\n")
}

fn break_off(stream: TcpStream) -> Option<TcpStream> {
    say(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
}

fn say(mut stream: TcpStream, answer: &[u8]) -> Option<TcpStream> {
    // The proxy may have given up already.
    let _ = stream.read(&mut [0; 4096]);
    let _ = stream.write_all(answer);
    None
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
