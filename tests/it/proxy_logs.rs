//! The secret is in the URL, and proxies log URLs: not these, whatever goes wrong.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::proxy::{KINDS, Kind, Proxy, in_the_receivers_place};
use crate::support::{JSON, Receiver, SECRET, callback, path, read_answer, send_request, write};

const MOMENT: i64 = 1_632_234_645_000;

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

        let nobody = "127.0.0.1:9";
        // Of this kind of trouble nginx speaks at its second highest level.
        let nothing = if kind == Kind::Nginx { "unix:/not/there" } else { "unix//not/there" };
        let broken: [fn(TcpStream) -> Option<TcpStream>; 4] = [hang_up, say_nothing, say_nonsense, break_off];
        for place in [nobody, nothing].map(str::to_owned).into_iter().chain(broken.map(in_the_receivers_place)) {
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
