//! Real brokers, each a process with a port and a folder of its own, and what breaks the way to them.
//!
//! Both the tests of the whole and those of the sinks include this file, so it knows neither of them.
#![allow(dead_code, reason = "each of the two that include it leaves something out")]

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

// Where they are has to be said: who includes this file by its path would look for them beside it.
#[path = "broker/nats.rs"]
pub(crate) mod nats;
#[path = "broker/nats_client.rs"]
pub(crate) mod nats_client;
#[path = "broker/process.rs"]
mod process;
#[path = "broker/proxy.rs"]
pub(crate) mod proxy;
#[path = "broker/rabbitmq.rs"]
pub(crate) mod rabbitmq;
#[path = "broker/redis.rs"]
pub(crate) mod redis;
#[path = "broker/tls.rs"]
pub(crate) mod tls;

/// How long a server may take to start. No test waits this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(90);

/// The ports that servers get. The system gives none of them to a client, so none is lost while its server is down.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A server on a port and in a folder of its own. Dropping it kills it, and removes the folder; and when the tests end without
/// that, it ends with them.
pub(crate) struct Server {
    command: Command,
    /// What its output has in it as soon as it serves.
    ready: &'static str,
    child: Option<Child>,
    port: u16,
    folder: TempDir,
    companion: Option<Box<Self>>,
}

impl Server {
    /// Starts the command that `prepare` makes for a folder and a port, and waits until its output says `ready`.
    fn start(ready: &'static str, prepare: impl Fn(&Path, u16) -> Command) -> Self {
        for _ in 0..5 {
            let folder = process::folder();
            let port = free_port();
            let mut server =
                Self { command: prepare(folder.path(), port), ready, child: None, port, folder, companion: None };
            server.run();
            if server.has_started() {
                return server;
            }
            let output = server.output().to_lowercase();
            let lost_its_port = ["address already in use", "eaddrinuse"].iter().any(|words| output.contains(words));
            assert!(lost_its_port, "{:?} does not start:\n{}", server.command, server.output());
        }
        panic!("one port after the other is taken by somebody else");
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Where its configuration and its data are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All that it has printed since it was last started.
    pub(crate) fn output(&self) -> String {
        let output = std::fs::read(self.folder().join("output")).expect("each start makes it");
        String::from_utf8_lossy(&output).into_owned()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// What it needs until it has ended: RabbitMQ the registry of Erlang's nodes.
    pub(crate) fn companion(&self) -> Option<&Self> {
        self.companion.as_deref()
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again after [`Self::kill`], on the same port and with the same folder, and waits until it serves.
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        self.run();
        assert!(self.has_started(), "{:?} does not start again:\n{}", self.command, self.output());
    }

    fn run(&mut self) {
        let output = File::create(self.folder().join("output")).expect("the folder is there");
        let errors = output.try_clone().expect("it is a file");
        self.command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(output).stderr(errors);
        self.child = Some(process::spawn(&mut self.command));
    }

    /// Waits until it serves; `false` if it ends before that.
    fn has_started(&mut self) -> bool {
        let mut has_ended = false;
        let has_come_to_it = comes_true(|| {
            has_ended =
                self.child.as_mut().is_none_or(|child| child.try_wait().expect("it can be waited for").is_some());
            has_ended || self.output().contains(self.ready)
        });
        assert!(has_come_to_it, "{:?} takes too long:\n{}", self.command, self.output());
        !has_ended
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens on, and that nobody else here was given.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests that run at the same time, as other processes, begin elsewhere.
    let first = std::process::id().wrapping_mul(97);
    PORTS
        .map(|_| {
            let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed).into());
            let number = number % u32::try_from(PORTS.len()).expect("it is small");
            PORTS.start + u16::try_from(number).expect("it is less than the number of ports")
        })
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a port is free")
}

/// Waits for a condition that comes true by itself; `false` if it takes too long.
fn comes_true(mut is_true: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}
