//! A sink whose destination is in trouble is nobody else's trouble.

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::destination::{Destination, Reply};
use crate::support::{JSON, Receiver, callback, connect, path, read_answer, send_request, wait_until};

/// How many callbacks are posted, over how many connections.
const CALLBACKS: usize = 3000;
const CONNECTIONS: usize = 32;

/// What was measured.
struct Measured {
    /// Callbacks answered a second.
    answered_per_second: f64,
    /// The most that the healthy sink was behind while callbacks came.
    most_behind: i64,
    /// How long after the last answer the healthy sink had everything.
    caught_up_after: Duration,
}

impl Measured {
    fn print(&self, what: &str) {
        let Self { answered_per_second, most_behind, caught_up_after } = self;
        eprintln!(
            "{what}: {answered_per_second:.0} callbacks answered a second, the healthy sink at most {most_behind} behind, \
             and with everything {} ms after the last answer",
            caught_up_after.as_millis()
        );
    }
}

#[test]
fn sinks_that_hang_are_dead_or_slow_affect_neither_reception_nor_the_healthy_one() {
    let healthy = Destination::start(|_, _| Reply::Status(200));
    let receiver = Receiver::start(&sinks(&healthy, ""));
    let alone = load(&receiver, &healthy);
    receiver.stop();
    drop(healthy);

    let healthy = Destination::start(|_, _| Reply::Status(200));
    let hanging = Destination::start(|_, _| Reply::Hang);
    let slow = Destination::start(|_, _| Reply::Slow(200, Duration::from_millis(100)));
    let others = format!(
        "{}{}{}[sinks.slow.delivery]\nconcurrency = 1\n",
        hanging.sink("hanging"),
        forward("dead", nobody_listens()),
        slow.sink("slow"),
    );
    let receiver = Receiver::start(&sinks(&healthy, &others));
    let beside_others = load(&receiver, &healthy);
    alone.print("the healthy sinks alone");
    beside_others.print("beside three in trouble");

    // The healthy one has everything, and the others still have it before them.
    let [dead, hanging_one, slow_one] = ["dead", "hanging", "slow"].map(|name| sink(&receiver, name));
    assert_eq!((&dead["delivered"], &dead["state"]), (&Value::from(0), &Value::from("away")));
    assert_eq!(hanging_one["delivered"], 0);
    for sink in [dead, hanging_one, slow_one] {
        let left = i64::try_from(CALLBACKS).expect("small") / 2;
        assert!(sink["lag"].as_i64().is_some_and(|lag| lag > left), "{sink}");
    }
    assert_eq!(receiver.admin_get("/readyz").status, 200);
}

/// A sink that forwards to a destination that is well, and a log sink, with `others` beside them.
fn sinks(healthy: &Destination, others: &str) -> String {
    format!("{}[sinks.audit.log]\n{others}", healthy.sink("healthy"))
}

fn forward(name: &str, address: SocketAddr) -> String {
    format!("[sinks.{name}.forward]\nurl = \"http://{address}/\"\n")
}

/// An address that refuses connections.
fn nobody_listens() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("there is a free port")
}

fn sink(receiver: &Receiver, name: &str) -> Value {
    let sinks = receiver.admin_get("/api/v1/sinks").json();
    let found = sinks.as_array().expect("a list").iter().find(|sink| sink["name"] == name);
    found.unwrap_or_else(|| panic!("no sink {name}: {sinks}")).clone()
}

/// Posts all callbacks, each of which must be answered 200, and waits until the healthy sinks have them.
fn load(receiver: &Receiver, healthy: &Destination) -> Measured {
    let begun = Instant::now();
    let mut most_behind = 0;
    thread::scope(|scope| {
        let address = receiver.address;
        let posting: Vec<_> =
            (0..CONNECTIONS).map(|connection| scope.spawn(move || post(address, connection))).collect();
        while !posting.iter().all(thread::ScopedJoinHandle::is_finished) {
            most_behind = most_behind.max(sink(receiver, "healthy")["lag"].as_i64().expect("a number"));
        }
        let posted: Vec<_> = posting.into_iter().map(thread::ScopedJoinHandle::join).collect();
        assert!(posted.iter().all(Result::is_ok), "every callback is answered 200");
    });
    let answered = begun.elapsed();
    wait_until("the healthy sink has everything", || sink(receiver, "healthy")["lag"] == 0);
    let caught_up_after = begun.elapsed() - answered;
    assert_eq!(healthy.taken().len(), CALLBACKS, "each once");
    assert_eq!(receiver.changes_on_the_log(CALLBACKS).len(), CALLBACKS);
    Measured { answered_per_second: CALLBACKS as f64 / answered.as_secs_f64(), most_behind, caught_up_after }
}

/// Posts one connection's part.
fn post(address: SocketAddr, connection: usize) {
    let mut stream = connect(address);
    for number in (connection..CALLBACKS).step_by(CONNECTIONS) {
        let body = callback(&format!("message-{number}"), "SENT", 1_632_234_645_000);
        send_request(&mut stream, "POST", &path(), &JSON, body.as_bytes());
        assert_eq!(read_answer(&mut stream).status, 200);
    }
}
