//! What each sink carries: from the store to the destination's confirmation, and all the way from the callback.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::routing::post;
use serde_json::Value;

use crate::broker::{nats, rabbitmq, redis};
use crate::client;
use crate::server::{PATH, Server};

const MESSAGES: u64 = 20_000;
const CONNECTIONS: u64 = 64;
const CHANGES: u64 = MESSAGES * 3;

/// Measures, and prints what came of it.
pub(crate) async fn measure() -> anyhow::Result<()> {
    println!("Sinks: {CHANGES} changes each, three of a message");
    println!("{:<38} {:>22} {:>22} {:>15}", "", "backlog: changes/s", "CPU µs/change", "end to end: /s");
    let forward = destination().await?;
    let (nats, rabbitmq, redis) = (nats::start(), rabbitmq::start(), redis::start());
    let nats_sink = format!(
        "[sinks.s.queue.nats]\nurl = \"nats://{}\"\nsubject = \"bench.{{instance_id}}\"\ncreate_stream = {{ name = \"BENCH\" }}\n",
        nats.address()
    );
    for (name, sink) in [
        ("log, to /dev/null", "[sinks.s.log]\n".to_owned()),
        ("forward, to axum on this machine", format!("[sinks.s.forward]\nurl = \"http://{forward}/\"\n")),
        ("NATS JetStream, file storage", nats_sink),
        (
            "RabbitMQ, a quorum queue of one node",
            format!(
                "[sinks.s.queue.rabbitmq]\nurl = \"amqp://guest:guest@{}/%2f\"\nexchange = \"bench\"\n\
                 routing_key = \"bench\"\ndeclare = {{ queue = \"bench\" }}\n",
                rabbitmq.address()
            ),
        ),
        (
            "Redis Streams, appendfsync always",
            format!("[sinks.s.queue.redis]\nurl = \"redis://{}\"\nstream = \"bench\"\n", redis.address()),
        ),
    ] {
        one(name, &sink).await?;
    }
    Ok(())
}

async fn one(name: &str, sink: &str) -> anyhow::Result<()> {
    let server = Server::receiver(sink).await?;
    // The first change opens connections and the like.
    client::post(server.address, PATH, 1, 1).await?;
    delivered(&server, 3).await?;

    client::request(server.admin, "POST", "/api/v1/sinks/s/pause").await?;
    client::post(server.address, PATH, MESSAGES, CONNECTIONS).await?;
    let (begun, before) = (Instant::now(), server.cpu()?);
    client::request(server.admin, "POST", "/api/v1/sinks/s/resume").await?;
    delivered(&server, 3 + CHANGES).await?;
    let (backlog, cpu) = (begun.elapsed(), server.cpu()? - before);

    let begun = Instant::now();
    client::post(server.address, PATH, MESSAGES, CONNECTIONS).await?;
    delivered(&server, 3 + 2 * CHANGES).await?;
    let whole = begun.elapsed();

    let rate = |time: Duration| CHANGES as f64 / time.as_secs_f64();
    let cpu_us = cpu.as_secs_f64() * 1e6 / CHANGES as f64;
    println!("{name:<38} {:>22.0} {cpu_us:>22.1} {:>15.0}", rate(backlog), rate(whole));
    Ok(())
}

/// Waits until the sink has delivered so many.
async fn delivered(server: &Server, changes: u64) -> anyhow::Result<()> {
    loop {
        let sinks: Value = serde_json::from_str(&client::request(server.admin, "GET", "/api/v1/sinks").await?)?;
        let sink = &sinks[0];
        let delivered = sink["delivered"].as_u64().context("it says how many were delivered")?;
        anyhow::ensure!(sink["state"] == "delivering" && sink["failed"] == 0, "the sink fails: {sink}");
        if delivered >= changes {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An HTTP server that takes everything.
async fn destination() -> anyhow::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(async |_: String| ()))).await });
    Ok(address)
}
