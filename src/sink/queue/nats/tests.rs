//! The NATS sink on a real server.

mod away;
mod configuration;
mod conformance;
mod credentials;
mod messages;
mod refused;
mod streams;
mod tls;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Config, NatsSink};
use crate::sink::Delivery;
use crate::sink::broker::nats_client::{Client, Stored};
use crate::sink::conformance::delivery;

/// The stream of the tests, and its subjects.
const STREAM: &str = "WHATSAPP";
const SUBJECTS: &str = "whatsapp.status.*";

/// Some of what is secret in the tests.
const CANARY: &str = "canary-7f31";

fn config(toml: &str) -> Result<Config, String> {
    let config: Config = toml::from_str(toml).map_err(|error: toml::de::Error| error.message().to_owned())?;
    config.validate().map(|()| config)
}

/// A sink that publishes to a server, as `whatsapp.status.{instance_id}` unless the rest of its configuration says otherwise.
fn sink(address: SocketAddr, rest: &str) -> NatsSink {
    let url = if rest.contains("url =") { String::new() } else { format!("url = \"nats://{address}\"\n") };
    let subject = if rest.contains("subject =") { "" } else { "subject = \"whatsapp.status.{instance_id}\"\n" };
    NatsSink::new(&config(&format!("{url}{subject}{rest}")).unwrap()).unwrap()
}

/// A client with a stream that takes what the sink publishes.
fn stream_at(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client.make_stream(STREAM, json!({ "subjects": [SUBJECTS] }));
    client
}

/// A change whose message is larger than others by so many bytes.
fn large(message_id: &str, bytes: usize) -> Delivery {
    let mut delivery = delivery(message_id);
    let callback =
        format!(r#"{{"type":"MessageStatusCallback","ids":["{message_id}"],"filler":"{}"}}"#, "x".repeat(bytes));
    delivery.change.callback = serde_json::value::RawValue::from_string(callback).unwrap();
    delivery
}

/// A change of another instance.
fn of_instance(message_id: &str, instance_id: &str) -> Delivery {
    let mut delivery = delivery(message_id);
    delivery.change.facts.instance_id = Some(instance_id.into());
    delivery
}

/// The message ids of what a stream has.
fn message_ids(stored: &[Stored]) -> Vec<String> {
    stored.iter().map(|stored| stored.json()["message_id"].as_str().unwrap().to_owned()).collect()
}

/// Waits for what comes by itself.
async fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_true() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
