//! Status changes reach a NATS JetStream stream in spite of everything, each once and each message's in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::broker::nats_client::{Client, Stored};
use crate::broker::{Server, nats};
use crate::support::{JSON, Receiver, callback, eventually, path, request, wait_until};

pub(crate) const STREAM: &str = "WHATSAPP";

const STATUSES: [&str; 4] = ["SENT", "RECEIVED", "READ", "PLAYED"];

/// A sink that publishes to these servers, with pauses short enough for a test.
pub(crate) fn sink(servers: &[&Server], rest: &str) -> String {
    let urls: Vec<_> = servers.iter().map(|server| format!("nats://{}", server.address())).collect();
    format!(
        "[sinks.bus.queue.nats]\nurl = \"{}\"\nsubject = \"whatsapp.status.{{instance_id}}\"\n{rest}\n\
         [sinks.bus.delivery]\nbackoff = {{ min = \"5ms\", max = \"50ms\" }}\nstart = \"beginning\"\n",
        urls.join(",")
    )
}

/// The lives of these messages, one status after the other.
fn lives(messages: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    STATUSES.into_iter().flat_map(move |status| {
        messages.clone().map(move |message| callback(&format!("message-{message}"), status, 1_632_234_645_000))
    })
}

/// Posts the lives of these messages to a receiver.
pub(crate) fn post(receiver: SocketAddr, messages: std::ops::Range<usize>) {
    for body in lives(messages) {
        assert_eq!(request(receiver, "POST", &path(), &JSON, body.as_bytes()).status, 200);
    }
}

/// Posts all the while that something else happens; how many messages it were.
fn post_while<T>(receiver: &Receiver, happens: impl FnOnce() -> T) -> (usize, T) {
    let (address, is_over) = (receiver.address, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let posting = scope.spawn(|| {
            let mut posted = 0;
            while !is_over.load(Ordering::Relaxed) {
                post(address, posted..posted + 20);
                posted += 20;
            }
            posted
        });
        // A panic has to end the posting, too.
        let happened = std::panic::catch_unwind(AssertUnwindSafe(happens));
        is_over.store(true, Ordering::Relaxed);
        let happened = happened.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (posting.join().expect("every callback is answered 200"), happened)
    })
}

fn stream(server: &Server, replicas: usize) -> Client {
    let mut client = Client::connect(server.address());
    client.make_stream(STREAM, json!({ "subjects": ["whatsapp.status.*"], "num_replicas": replicas }));
    client
}

/// Where the sink stands, as the operator sees it.
pub(crate) fn standing(receiver: &Receiver) -> Value {
    let sinks = receiver.admin_get("/api/v1/sinks").json();
    sinks.as_array().and_then(|sinks| sinks.iter().find(|sink| sink["name"] == "bus")).expect("it is there").clone()
}

pub(crate) fn wait_until_all_is_delivered(receiver: &Receiver) {
    wait_until("everything is delivered", || {
        let standing = standing(receiver);
        standing["lag"] == 0 && standing["deferred"] == 0 && standing["state"] == "delivering"
    });
}

/// The stream has the whole lives of as many messages, each change once and each message's in order.
pub(crate) fn assert_whole(stored: &[Stored], messages: usize) {
    let mut lives: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for stored in stored {
        let event = stored.json();
        assert_eq!(stored.header("Nats-Msg-Id"), event["id"].as_str());
        let text = |key: &str| event[key].as_str().expect("a text").to_owned();
        lives.entry(text("message_id")).or_default().push(text("status"));
    }
    for (message, statuses) in &lives {
        assert_eq!(statuses, &STATUSES, "{message}");
    }
    assert_eq!(lives.len(), messages);
}

#[test]
fn each_change_is_in_the_stream_once_and_in_order_however_often_the_server_is_killed() {
    let mut server = nats::start();
    stream(&server, 1);
    let receiver = Receiver::start(&sink(&[&server], ""));
    let (posted, ()) = post_while(&receiver, || {
        for _ in 0..5 {
            let before = standing(&receiver)["delivered"].as_u64();
            wait_until("deliveries are under way", || standing(&receiver)["delivered"].as_u64() > before);
            server.kill();
            wait_until("it is known to be away", || standing(&receiver)["state"] == "away");
            server.start_again();
        }
    });
    wait_until_all_is_delivered(&receiver);
    assert_whole(&Client::connect(server.address()).stored(STREAM), posted);
    assert_eq!(standing(&receiver)["dead"], 0);
    receiver.stop();
}

#[test]
fn a_server_that_starts_after_the_receiver_gets_everything_and_nobody_waits_for_it() {
    let mut server = nats::start();
    server.kill();
    let stream = "create_stream = { name = \"WHATSAPP\" }";
    let receiver = Receiver::start(&format!("{}[sinks.audit.log]\n", sink(&[&server], stream)));
    post(receiver.address, 0..10);
    assert_eq!(receiver.changes_on_the_log(40).len(), 40, "the other sink goes on");
    wait_until("it is known to be away", || standing(&receiver)["state"] == "away");
    server.start_again();
    wait_until_all_is_delivered(&receiver);
    assert_whole(&Client::connect(server.address()).stored(STREAM), 10);
    let output = receiver.output();
    assert!(!output.contains("async_nats"), "the client says nothing by itself:\n{output}");
    receiver.stop();
}

#[test]
fn while_a_stream_is_full_everything_waits_and_then_goes_on() {
    let server = nats::start();
    let mut client = Client::connect(server.address());
    let settings = |most: i64| json!({ "subjects": ["whatsapp.status.*"], "discard": "new", "max_msgs": most });
    client.make_stream(STREAM, settings(7));
    let receiver = Receiver::start(&format!("{}[sinks.audit.log]\n", sink(&[&server], "")));
    post(receiver.address, 0..10);
    assert_eq!(receiver.changes_on_the_log(40).len(), 40, "the other sink goes on");
    wait_until("it is known to be away", || standing(&receiver)["state"] == "away");
    let error = standing(&receiver)["last_error"].to_string();
    assert!(error.contains("maximum messages exceeded"), "{error}");
    client.update_stream(STREAM, settings(-1));
    wait_until_all_is_delivered(&receiver);
    assert_whole(&client.stored(STREAM), 10);
    assert_eq!(standing(&receiver)["dead"], 0);
    receiver.stop();
}

#[test]
fn without_a_stream_changes_are_dead_letters_that_say_so_and_a_retry_brings_them_in() {
    let server = nats::start();
    let receiver = Receiver::start(&sink(&[&server], ""));
    post(receiver.address, 0..1);
    wait_until("they are dead", || standing(&receiver)["dead"] == 4);
    let (_, dead, _) = receiver.run(&["dead", "list", "--sink", "bus"]);
    assert!(dead.contains("there is no stream that takes whatsapp.status.instance_id"), "{dead}");
    let mut client = stream(&server, 1);
    let (code, _, error) = receiver.run(&["dead", "retry", "--sink", "bus"]);
    assert_eq!((code, error.as_str()), (0, ""));
    wait_until_all_is_delivered(&receiver);
    assert_eq!(client.count(STREAM), 4);
    assert_eq!(standing(&receiver)["dead"], 0);
    receiver.stop();
}

#[test]
fn a_cluster_fails_over_and_every_change_is_in_its_stream_once_and_in_order() {
    let mut servers = nats::cluster("");
    stream(&servers[0], 3);
    let receiver = Receiver::start(&sink(&servers.each_ref(), "timeout = \"2s\""));
    let (posted, leader) = post_while(&receiver, || {
        let delivered = || standing(&receiver)["delivered"].as_u64();
        wait_until("deliveries are under way", || delivered() > Some(40));
        let leader = leader(&servers[0]).expect("it was just made");
        let leader = servers.iter().position(|server| is_named(server, &leader)).expect("it is one of them");
        servers[leader].kill();
        let survivor = &servers[(leader + 1) % 3];
        eventually("there is another leader", || {
            self::leader(survivor).filter(|name| !is_named(&servers[leader], name))
        });
        let before = delivered();
        wait_until("deliveries go on", || delivered() > before);
        leader
    });
    wait_until_all_is_delivered(&receiver);
    let mut client = Client::connect(servers[(leader + 1) % 3].address());
    assert_whole(&client.stored(STREAM), posted);
    assert_eq!(standing(&receiver)["dead"], 0);
    receiver.stop();
}

/// The name of the server that leads the stream.
fn leader(server: &Server) -> Option<String> {
    let info = Client::connect(server.address()).try_ask(&format!("STREAM.INFO.{STREAM}"), &json!({}))?;
    info["cluster"]["leader"].as_str().map(str::to_owned)
}

fn is_named(server: &Server, name: &str) -> bool {
    let configuration = std::fs::read_to_string(server.folder().join("nats.conf")).expect("it is there");
    configuration.contains(&format!("server_name: {name}\n"))
}
