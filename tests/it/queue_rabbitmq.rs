//! Status changes reach RabbitMQ in spite of everything, each message's in order, read back by a client that is nobody's sink.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use lapin::options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::broker::proxy::Proxy;
use crate::broker::{Server, rabbitmq};
use crate::delivery::{QUICK, STATUSES, first_taken, post_lifecycles};
use crate::support::{Receiver, callback, wait_until};

/// A consumer's connection.
struct Client {
    runtime: Runtime,
    channel: Channel,
}

impl Client {
    fn new(broker: &Server) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let channel = runtime.block_on(async {
            let url = format!("amqp://guest:guest@{}/%2f", broker.address());
            let connection = Connection::connect(&url, ConnectionProperties::default()).await.expect("it is there");
            connection.create_channel().await.expect("it can be opened")
        });
        Self { runtime, channel }
    }

    /// Declares an exchange and a queue, and binds it for all routing keys.
    fn declare(&self, exchange: &str, queue: &str) {
        let (kind, table) = (ExchangeKind::Topic, FieldTable::default);
        self.runtime.block_on(async {
            let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
            self.channel.exchange_declare(exchange.into(), kind, durable, table()).await.expect("it can be declared");
            let durable = QueueDeclareOptions { durable: true, ..Default::default() };
            self.channel.queue_declare(queue.into(), durable, table()).await.expect("it can be declared");
            let options = QueueBindOptions::default();
            let bound = self.channel.queue_bind(queue.into(), exchange.into(), "#".into(), options, table());
            bound.await.expect("it can be bound");
        });
    }

    /// Takes all messages out of a queue.
    fn take(&self, queue: &str) -> Vec<Value> {
        let mut taken = Vec::new();
        let get = || self.channel.basic_get(queue.into(), BasicGetOptions { no_ack: true });
        while let Some(message) = self.runtime.block_on(get()).expect("the queue is there") {
            assert_eq!(message.properties.kind().as_ref().expect("a type").as_str(), "message.status");
            taken.push(serde_json::from_slice(&message.data).expect("JSON"));
        }
        taken
    }
}

/// The tables of a sink `bus`.
fn sink(broker: SocketAddr, lines: &str) -> String {
    let url = format!("url = \"amqp://guest:guest@{broker}/%2f\"\nrouting_key = \"status.{{status}}\"\n");
    format!("[sinks.bus.queue.rabbitmq]\n{url}{lines}\n{}", QUICK.replace("crm", "bus"))
}

/// Where the sink stands.
fn standing(receiver: &Receiver) -> Value {
    let sinks = receiver.admin_get("/api/v1/sinks").json();
    sinks.as_array().expect("a list").iter().find(|sink| sink["name"] == "bus").expect("it is there").clone()
}

fn number(receiver: &Receiver, key: &str) -> i64 {
    standing(receiver)[key].as_i64().expect("a number")
}

/// Everything that was stored is among what was taken, and each message's statuses came in order.
fn assert_all_in_order(receiver: &Receiver, taken: &[Value]) {
    let ids = |changes: &[Value]| changes.iter().map(|change| change["id"].to_string()).collect::<BTreeSet<_>>();
    assert_eq!(ids(taken), ids(&receiver.stored()));
    for (message, statuses) in first_taken(taken) {
        assert_eq!(statuses, STATUSES, "{message}");
    }
}

#[test]
fn what_was_stored_reaches_the_broker_however_late_it_starts_and_however_often_it_is_killed() {
    const MESSAGES: usize = 40;
    let mut broker = rabbitmq::start();
    // A classic queue: this release forgets a quorum queue when it is killed half a second after the queue is declared.
    Client::new(&broker).declare("whatsapp", "status");
    // For the receiver it starts later.
    let proxy = Proxy::start(broker.address(), "x");
    proxy.refuse();
    let lines = "exchange = \"whatsapp\"\ntimeout = \"2s\"";
    let receiver = Receiver::start(&format!("{}[sinks.audit.log]\n", sink(proxy.address(), lines)));
    post_lifecycles(&receiver, 0..MESSAGES);
    assert_eq!(receiver.changes_on_the_log(MESSAGES * 4).len(), MESSAGES * 4, "another sink goes on");
    assert_eq!((number(&receiver, "lag"), number(&receiver, "delivered")), (160, 0));
    proxy.accept();
    for kill in 1..3 {
        let from = kill * MESSAGES;
        let before = number(&receiver, "delivered");
        post_lifecycles(&receiver, from..from + MESSAGES / 2);
        wait_until("deliveries are under way", || number(&receiver, "delivered") > before);
        broker.kill();
        post_lifecycles(&receiver, from + MESSAGES / 2..from + MESSAGES);
        broker.start_again();
    }
    wait_until("everything is confirmed", || number(&receiver, "lag") == 0);
    assert_eq!((number(&receiver, "dead"), number(&receiver, "deferred")), (0, 0));
    let taken = Client::new(&broker).take("status");
    assert_all_in_order(&receiver, &taken);
    receiver.stop();
}

#[test]
fn while_the_broker_takes_nothing_because_of_an_alarm_all_others_go_on_and_then_it_gets_everything() {
    let broker = rabbitmq::start();
    let client = Client::new(&broker);
    client.declare("whatsapp", "status");
    let proxy = Proxy::start(broker.address(), "x");
    let lines = "exchange = \"whatsapp\"\ntimeout = \"200ms\"";
    let receiver = Receiver::start(&format!("{}[sinks.audit.log]\n", sink(proxy.address(), lines)));
    post_lifecycles(&receiver, 0..5);
    wait_until("it is delivered", || number(&receiver, "delivered") == 20);
    rabbitmq::ctl(&broker, &["set_vm_memory_high_watermark", "0"]);
    post_lifecycles(&receiver, 5..25);
    assert_eq!(receiver.changes_on_the_log(100).len(), 100);
    wait_until("it is known why", || {
        standing(&receiver)["last_error"].as_str().is_some_and(|why| why.contains("alarm"))
    });
    // The next connection is told of the alarm when something was published on it, which is read once the alarm is over.
    proxy.refuse();
    proxy.accept();
    let failed = number(&receiver, "failed");
    wait_until("it is probed again and again", || number(&receiver, "failed") > failed + 20);
    assert_eq!((number(&receiver, "delivered"), number(&receiver, "dead")), (20, 0));
    assert_eq!(standing(&receiver)["state"], "away");
    // What was given up is gone, however little the broker listens.
    wait_until("one connection is left at most", || client_threads(&receiver) <= 1);
    let connections = rabbitmq::ctl(&broker, &["list_connections", "state"]);
    assert!(connections.lines().count() <= 4, "the consumer's and, for a cut, one more: {connections}");
    rabbitmq::ctl(&broker, &["set_vm_memory_high_watermark", "0.8"]);
    wait_until("everything is confirmed", || number(&receiver, "lag") == 0);
    let taken = client.take("status");
    assert_all_in_order(&receiver, &taken);
    let mut times = BTreeMap::<_, u32>::new();
    for change in &taken {
        *times.entry(change["id"].to_string()).or_default() += 1;
    }
    assert!(times.values().all(|times| *times <= 3), "not once per probe: {times:?}");
    receiver.stop();
}

/// How many threads of the client there are, of which each connection has one.
fn client_threads(receiver: &Receiver) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{}/task", receiver.pid())).expect("it runs");
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "lapin-io-loop").count()
}

#[test]
fn what_has_nowhere_to_go_is_a_dead_letter_until_the_broker_is_set_up_and_it_is_retried() {
    let broker = rabbitmq::shared();
    let client = Client::new(broker);
    let receiver = Receiver::start(&sink(broker.address(), "exchange = \"set-up-late\""));
    let dead = |reasons: &[&str]| {
        wait_until("they are dead", || number(&receiver, "dead") == 4);
        let letters = receiver.admin_get("/api/v1/sinks/bus/dead").json();
        for letter in letters.as_array().expect("a list") {
            let text = letter.to_string();
            assert!(reasons.iter().all(|reason| text.contains(reason)), "{text}");
        }
        let (code, told, error) = receiver.run(&["dead", "retry", "--sink", "bus"]);
        assert_eq!(code, 0, "{told}{error}");
    };
    post_lifecycles(&receiver, 0..1);
    // Nothing else comes before the broker is there again.
    dead(&["refused", "NOT_FOUND", "set-up-late"]);
    wait_until("they are refused again", || number(&receiver, "failed") == 8);
    client.declare("set-up-late", "set-up-late");
    dead(&["refused", "set-up-late"]);
    wait_until("they are taken", || number(&receiver, "delivered") == 4 && number(&receiver, "dead") == 0);
    let taken = client.take("set-up-late");
    assert_eq!(taken.len(), 4, "each once");
    assert_all_in_order(&receiver, &taken);
    receiver.stop();
}

#[test]
fn at_the_lowest_level_no_password_and_no_phone_number_is_printed() {
    let broker = rabbitmq::shared();
    rabbitmq::ctl(broker, &["add_user", "canary-user", "canary-word"]);
    rabbitmq::ctl(broker, &["set_permissions", "canary-user", ".*", ".*", ".*"]);
    let right = sink(broker.address(), "exchange = \"amq.topic\"").replace("guest:guest", "canary-user:canary-word");
    let wrong = right.replace("bus", "wrong").replace("canary-word", "canary-wrong");
    let late = right.replace("bus", "late").replace("amq.topic", "not-there");
    let receiver = Receiver::start(&format!("[log]\nlevel = \"trace,lapin::io_loop=trace\"\n{right}{wrong}{late}"));
    receiver.post(&callback("m", "READ", 1_632_234_645_000));
    // It is unroutable: the client is given it back.
    wait_until("it is refused", || number(&receiver, "dead") == 1);
    wait_until("all were tried", || {
        let sinks = receiver.admin_get("/api/v1/sinks").json();
        sinks.as_array().expect("a list").iter().all(|sink| sink["failed"].as_i64().expect("a number") > 0)
    });
    let checked = receiver.run(&["check", "--connect"]);
    let printed = format!("{}{}{}", receiver.output(), checked.1, checked.2);
    assert!(printed.contains("unroutable"), "{printed}");
    for canary in ["canary", "Y2FuYXJ5", "5544999999999"] {
        assert_eq!(printed.find(canary).map(|at| &printed[at.saturating_sub(300)..]), None, "{canary}");
    }
    receiver.stop();
}
