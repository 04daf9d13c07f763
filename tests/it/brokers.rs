//! What the tests of queue sinks rely on: real brokers, and a way to them that can be broken.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::broker::proxy::Proxy;
use crate::broker::{Server, nats, redis};
use crate::support::{connect, read_to_close, wait_until, write};

/// What each message to Redis is here.
const MESSAGE: &str = "RPUSH list marker\r\n";

#[test]
fn nats_answers_as_soon_as_it_has_started() {
    let server = nats::start();
    let mut greeting = String::new();
    BufReader::new(connect(server.address())).read_line(&mut greeting).unwrap();
    assert!(greeting.starts_with("INFO {") && greeting.contains(r#""jetstream":true"#), "{greeting}");
}

#[test]
fn a_broker_has_the_configuration_that_its_test_gave_it() {
    let server = nats::start_with("max_payload: 4321");
    let mut greeting = String::new();
    BufReader::new(connect(server.address())).read_line(&mut greeting).unwrap();
    assert!(greeting.contains(r#""max_payload":4321"#), "{greeting}");

    let mut server = redis::start_with("requirepass one");
    assert!(ask(server.address(), "PING").starts_with("-NOAUTH"));
    server.kill();
    redis::reconfigure(&server, "");
    server.start_again();
    assert_eq!(ask(server.address(), "PING"), "+PONG");
}

#[test]
fn what_redis_has_answered_survives_a_kill_and_a_new_start() {
    let mut server = redis::start();
    assert_eq!(ask(server.address(), "PING"), "+PONG");
    assert_eq!(ask(server.address(), "SET key value"), "+OK");
    let address = server.address();
    server.kill();
    assert!(TcpStream::connect(address).is_err());
    server.start_again();
    assert_eq!(server.address(), address);
    assert_eq!(ask(address, "STRLEN key"), ":5");
}

#[test]
fn nothing_is_left_of_a_server_that_was_dropped() {
    for server in [nats::start(), redis::start()] {
        let (process, folder) = (process(&server), server.folder().to_owned());
        assert!(process.exists() && folder.exists());
        drop(server);
        assert!(!process.exists() && !folder.exists());
    }
}

#[test]
fn no_server_outlives_the_tests_that_are_killed() {
    let mut tests = Command::new(std::env::current_exe().unwrap());
    tests.args(["--exact", "brokers::servers_for_tests_that_are_killed", "--ignored", "--nocapture"]);
    let mut tests = tests.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(tests.stdout.take().unwrap()).lines().map(Result::unwrap);
    let left: Vec<PathBuf> = lines
        .filter_map(|line| Some(line.split_once("left: ")?.1.into()))
        .take_while(|path: &PathBuf| path != Path::new("all"))
        .collect();
    assert!(left.len() == 4 && left.iter().all(|path| path.exists()), "{left:?}");
    tests.kill().unwrap();
    tests.wait().unwrap();
    wait_until("its servers and their folders are gone", || left.iter().all(|path| !path.exists()));
}

#[test]
#[ignore = "another test starts this one, to kill it"]
fn servers_for_tests_that_are_killed() {
    let servers = [nats::start(), redis::start()];
    for server in &servers {
        println!("left: {}\nleft: {}", process(server).display(), server.folder().display());
    }
    println!("left: all");
    std::thread::park();
}

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

/// The answer to a command, on a connection of its own.
fn ask(redis: SocketAddr, command: &str) -> String {
    let mut stream = connect(redis);
    write(&mut stream, format!("{command}\r\n").as_bytes());
    line(&mut stream)
}

/// The next line, and nothing after it.
fn line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the server answers");
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("answers are ASCII").trim_end().to_owned()
}

/// Where its process is seen.
fn process(server: &Server) -> PathBuf {
    PathBuf::from(format!("/proc/{}", server.pid()))
}
