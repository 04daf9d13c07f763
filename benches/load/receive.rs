//! The receiver beside a bare server, in turn.

use std::time::Duration;

use crate::client;
use crate::server::{PATH, Server};

const ROUNDS: usize = 5;
const MESSAGES: u64 = 20_000;
const CONNECTIONS: u64 = 64;

/// Measures, and prints what came of it.
pub(crate) async fn measure() -> anyhow::Result<()> {
    println!("Receiving: {ROUNDS} rounds of {} callbacks over {CONNECTIONS} connections", MESSAGES * 3);
    println!("{:<52} {:>12} {:>16}", "", "callbacks/s", "CPU µs/callback");
    let (bare, receiver) = (Server::baseline().await?, Server::receiver("").await?);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push((round(&bare).await?, round(&receiver).await?));
    }
    let bare = median(&rounds, |(bare, _)| *bare);
    let durable = median(&rounds, |(_, receiver)| *receiver);
    row("axum alone: parses JSON, keeps nothing (the baseline)", bare);
    row("the receiver: each answer after a sync to disk", durable);
    println!(
        "{:<52} {:>12.2} {:>16.1}",
        "ratio to the baseline",
        durable.rate / bare.rate,
        durable.cpu_us / bare.cpu_us
    );
    Ok(())
}

/// What one round came to.
#[derive(Clone, Copy)]
struct Measured {
    /// Callbacks in a second.
    rate: f64,
    /// The server's CPU time for each.
    cpu_us: f64,
}

async fn round(server: &Server) -> anyhow::Result<Measured> {
    let before = server.cpu()?;
    let took = client::post(server.address, PATH, MESSAGES, CONNECTIONS).await?;
    let cpu: Duration = server.cpu()? - before;
    let callbacks = (MESSAGES * 3) as f64;
    Ok(Measured { rate: callbacks / took.as_secs_f64(), cpu_us: cpu.as_secs_f64() * 1e6 / callbacks })
}

/// The median of each value over the rounds of one of the two.
fn median(rounds: &[(Measured, Measured)], one: fn(&(Measured, Measured)) -> Measured) -> Measured {
    let of = |value: fn(Measured) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(|round| value(one(round))).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Measured { rate: of(|measured| measured.rate), cpu_us: of(|measured| measured.cpu_us) }
}

fn row(what: &str, measured: Measured) {
    println!("{what:<52} {:>12.0} {:>16.1}", measured.rate, measured.cpu_us);
}
