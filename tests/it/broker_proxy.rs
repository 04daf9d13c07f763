//! What the tests of queue sinks rely on: a way to a broker that can be broken.

use std::io::Read as _;
use std::net::TcpStream;

use crate::broker::proxy::Proxy;
use crate::broker::{nats, redis};
use crate::brokers::{ask, line};
use crate::support::{connect, read_to_close, wait_until, write};

/// What each message to Redis is here.
const MESSAGE: &str = "RPUSH list marker\r\n";

#[test]
fn a_proxy_cuts_the_connections_once_before_the_message_that_it_is_told() {
    let server = redis::start();
    let proxy = Proxy::start(server.address(), "marker");
    for (let_through, in_all) in [(0, 0), (1, 1), (3, 4)] {
        proxy.cut_after(let_through);
        let (mut idle, mut busy) = (connect(proxy.address()), connect(proxy.address()));
        write(&mut busy, MESSAGE.repeat(5).as_bytes());
        // It is closed, or reset because there was more to read.
        let mut rest = Vec::new();
        let _ = busy.read_to_end(&mut rest);
        assert_eq!(read_to_close(&mut idle), "", "all connections are cut");
        wait_until("what it let through is there", || ask(server.address(), "LLEN list") == format!(":{in_all}"));
    }
    assert_eq!(ask(proxy.address(), MESSAGE.trim_end()), ":5", "connections after that work");
}

#[test]
fn a_proxy_that_refuses_does_not_listen_until_it_accepts_again() {
    let server = redis::start();
    let proxy = Proxy::start(server.address(), "marker");
    for _ in 0..3 {
        let mut open = connect(proxy.address());
        write(&mut open, b"PING\r\n");
        assert_eq!(line(&mut open), "+PONG");
        proxy.refuse();
        assert_eq!(read_to_close(&mut open), "");
        let error = TcpStream::connect(proxy.address()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        proxy.accept();
        assert_eq!(ask(proxy.address(), "PING"), "+PONG");
    }
}

#[test]
fn a_proxy_that_stalls_keeps_connections_and_forwards_later_what_came() {
    let server = redis::start();
    let proxy = Proxy::start(server.address(), "marker");
    let mut open = connect(proxy.address());
    write(&mut open, b"PING\r\n");
    assert_eq!(line(&mut open), "+PONG");
    proxy.stall();
    write(&mut open, MESSAGE.as_bytes());
    let mut new = connect(proxy.address());
    write(&mut new, MESSAGE.as_bytes());
    assert_eq!(ask(server.address(), "LLEN list"), ":0");
    proxy.go_on();
    let mut lengths = [line(&mut open), line(&mut new)];
    lengths.sort();
    assert_eq!(lengths, [":1", ":2"]);
}

#[test]
fn a_proxy_closes_what_its_broker_closes_after_its_last_words() {
    let server = nats::start_with("authorization { token: one }");
    let proxy = Proxy::start(server.address(), "marker");
    let mut client = connect(proxy.address());
    write(&mut client, b"CONNECT {\"auth_token\":\"another\"}\r\nPING\r\n");
    assert!(read_to_close(&mut client).ends_with("-ERR 'Authorization Violation'\r\n"));
}
