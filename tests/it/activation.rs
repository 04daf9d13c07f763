//! Under systemd: the sockets that it holds open, and what it is told.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;

use rusqlite::Connection;

use crate::sockets::{hand_over, socket};
use crate::support::{
    Home, JSON, PATIENCE, Receiver, STORED, after, callback, connect, output_of, path, read_answer, send_head,
    send_request, signal, wait_until,
};

fn address(socket: &TcpListener) -> SocketAddr {
    socket.local_addr().expect("it is bound")
}

fn start_on(home: Home, socket: &TcpListener) -> Receiver {
    home.start_with(|command| hand_over(command, &[("plugchat-receiver.socket", socket)]))
}

#[test]
fn it_listens_on_the_sockets_that_it_is_handed_the_operators_by_its_name() {
    let (public, admin) = (socket(), socket());
    let receiver = Home::new("").start_with(|command| hand_over(command, &[("admin", &admin), ("any", &public)]));
    assert_eq!((receiver.address, receiver.admin), (address(&public), address(&admin)));
    assert_eq!(receiver.post(&callback("A", "READ", 1)).body, STORED);
    assert_eq!(receiver.admin_get("/readyz").status, 200);

    let public = socket();
    let receiver = start_on(receiver.stop(), &public);
    assert_eq!(receiver.address, address(&public));
    assert_ne!(receiver.admin, address(&admin), "what is not handed over is where the configuration says");
    assert_eq!(receiver.stored().len(), 1);
}

#[test]
fn who_connects_while_it_is_restarted_waits_and_is_answered() {
    let public = socket();
    let receiver = start_on(Home::new(""), &public);
    assert_eq!(receiver.post(&callback("before", "READ", 1)).status, 200);
    let home = receiver.stop();
    let mut waiting: Vec<_> = (0..20).map(|_| connect(address(&public))).collect();
    for (number, stream) in waiting.iter_mut().enumerate() {
        send_request(stream, "POST", &path(), &JSON, callback(&number.to_string(), "READ", 1).as_bytes());
    }
    let receiver = start_on(home, &public);
    for stream in &mut waiting {
        assert_eq!(read_answer(stream).body, STORED);
    }
    assert_eq!(receiver.stored().len(), 21);
}

#[test]
fn sockets_of_another_process_are_left_alone() {
    let receiver = Home::new("").start_with(|command| {
        command.envs([("LISTEN_PID", "1"), ("LISTEN_FDS", "1")]);
    });
    assert_eq!(receiver.post(&callback("A", "READ", 1)).body, STORED);
}

#[test]
fn a_socket_that_it_has_no_use_for_is_refused_at_the_start() {
    let (one, other) = (socket(), socket());
    let home = Home::new("");
    let mut command = home.command(&["serve"]);
    hand_over(&mut command, &[("one", &one), ("other", &other)]);
    let (code, said, _) = output_of_started(&mut command);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("\"other\"") && said.contains("FileDescriptorName=admin"), "{said}");

    let mut command = home.command(&["serve"]);
    after("exec 3</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=file", &mut command);
    let (code, _, error) = output_of(&mut command);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("\"file\"") && error.contains("ListenStream=IP:PORT"), "{error}");
}

/// As [`output_of`], for a command whose standard input is spoken for.
fn output_of_started(command: &mut std::process::Command) -> (i32, String, String) {
    let output = command.output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("it ended by itself"), text(&output.stdout), text(&output.stderr))
}

#[test]
fn an_operators_socket_that_others_can_reach_needs_a_token() {
    let admin = TcpListener::bind("0.0.0.0:0").expect("there is a free port");
    let home = Home::new("");
    let mut command = home.command(&["serve"]);
    hand_over(&mut command, &[("admin", &admin)]);
    let (code, _, error) = output_of_started(&mut command);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("admin.listen is 0.0.0.0") && error.contains("admin.token"), "{error}");
}

/// Where systemd would listen for what services tell it.
struct Manager {
    folder: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("it can be bound");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        Self { folder, socket }
    }

    fn start(&self, home: Home, variables: &[(&str, &str)]) -> Receiver {
        home.start_with(|command| {
            command.env("NOTIFY_SOCKET", self.folder.path().join("notify")).envs(variables.iter().copied());
        })
    }

    /// What it is told next.
    fn told(&self) -> String {
        let mut datagram = [0; 1000];
        let length = self.socket.recv(&mut datagram).unwrap_or_else(|error| panic!("it is told nothing: {error}"));
        String::from_utf8_lossy(&datagram[..length]).into_owned()
    }

    /// All that it has been told and not heard yet.
    fn told_meanwhile(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).expect("it is a socket");
        let mut all = Vec::new();
        let mut datagram = [0; 1000];
        let error = loop {
            match self.socket.recv(&mut datagram) {
                Ok(length) => all.push(String::from_utf8_lossy(&datagram[..length]).into_owned()),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        self.socket.set_nonblocking(false).expect("it is a socket");
        all
    }
}

#[test]
fn systemd_is_told_that_callbacks_are_received_and_that_the_end_begins() {
    let manager = Manager::new();
    let receiver = manager.start(Home::new(""), &[]);
    assert_eq!(manager.told(), "READY=1");
    assert_eq!(receiver.post(&callback("A", "READ", 1)).body, STORED);
    assert_eq!(manager.told_meanwhile(), Vec::<String>::new(), "no watchdog was asked for");
    signal(receiver.pid(), "TERM");
    assert_eq!(manager.told(), "STOPPING=1");
    assert_eq!(receiver.ended().status.code(), Some(0));
}

#[test]
fn a_start_that_fails_is_never_told_as_ready() {
    let manager = Manager::new();
    let running = manager.start(Home::new(""), &[]);
    assert_eq!(manager.told(), "READY=1");
    let mut second = running.home().command(&["serve"]);
    let (code, ..) = output_of(second.env("NOTIFY_SOCKET", manager.folder.path().join("notify")));
    assert_eq!(code, 1, "the store is in use");
    assert_eq!(manager.told_meanwhile(), Vec::<String>::new());
}

#[test]
fn the_watchdog_is_fed_for_as_long_as_the_store_commits_and_not_while_it_hangs() {
    let manager = Manager::new();
    let home = Home::new("[server.limits]\nin_flight = 1\nbody_timeout = \"60s\"\n");
    let receiver = manager.start(home, &[("WATCHDOG_USEC", "200000")]);
    assert_eq!(manager.told(), "READY=1");
    // A slow caller takes all the room that there is: that is nothing that hangs.
    let mut slow = connect(receiver.address);
    let start = format!("POST {} HTTP/1.1", path());
    let head = [&start, "host: x", "content-type: application/json", "expect: 100-continue", "content-length: 99"];
    send_head(&mut slow, &head);
    assert_eq!(read_answer(&mut slow).status, 100);
    manager.told_meanwhile();
    for _ in 0..3 {
        assert_eq!(manager.told(), "WATCHDOG=1");
    }

    let other = Connection::open(receiver.home().store().join("store.sqlite3")).expect("it can be opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("the writer waits from now on");
    wait_until("the watchdog is told nothing", || {
        manager.told_meanwhile();
        receiver.output().contains("the watchdog is told nothing")
    });
    let ready = receiver.admin_get("/readyz");
    assert_eq!((ready.status, &ready.json()["checks"]["store"]["ok"]), (503, &false.into()), "{ready:?}");
    assert_eq!(manager.told_meanwhile(), Vec::<String>::new());

    other.execute_batch("ROLLBACK").expect("it goes on");
    assert_eq!(manager.told(), "WATCHDOG=1");
    receiver.wait_for_output("all is well again");
}

#[test]
fn a_full_store_is_no_reason_for_the_watchdog_to_bite() {
    let manager = Manager::new();
    let home = Home::new("[store.sqlite]\nmax_size = \"1MiB\"\n[sinks.crm.forward]\nurl = \"http://127.0.0.1:9/\"\n");
    let receiver = manager.start(home, &[("WATCHDOG_USEC", "200000")]);
    let pad = "x".repeat(8 << 10);
    let body = |number: usize| callback(&number.to_string(), "READ", 1).replace("READ", &format!("READ{pad}"));
    assert!((0..256).any(|number| receiver.post(&body(number)).status == 503), "256 times 8 KiB are more than 1 MiB");
    assert_eq!(receiver.admin_get("/readyz").status, 503);
    manager.told_meanwhile();
    for _ in 0..3 {
        assert_eq!(manager.told(), "WATCHDOG=1");
    }
}

#[test]
fn a_watchdog_that_is_meant_for_another_process_is_not_fed() {
    let manager = Manager::new();
    let receiver = manager.start(Home::new(""), &[("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")]);
    assert_eq!(manager.told(), "READY=1");
    signal(receiver.pid(), "TERM");
    assert_eq!(manager.told(), "STOPPING=1");
}
