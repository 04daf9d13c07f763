//! What the whole receiver costs beside the least that a web server can do, and what each sink carries.
//!
//! `make bench` runs it. Requests per second are those of this machine at this moment, and the load takes its part of the same
//! processors; the CPU time of a server's process, and the ratio of two servers that take turns in one run, tell more.
#![allow(clippy::print_stdout, reason = "what it measured is what it is run for")]

#[allow(unused_imports, reason = "its own tests are not run here")]
#[path = "../tests/it/broker.rs"]
mod broker;
#[path = "load/client.rs"]
mod client;
#[path = "load/receive.rs"]
mod receive;
#[path = "load/server.rs"]
mod server;
#[path = "load/sinks.rs"]
mod sinks;

use anyhow::bail;
use tokio::runtime::Runtime;

fn main() -> anyhow::Result<()> {
    // Cargo adds an argument of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = Runtime::new()?;
    match words[..] {
        [server::BASELINE, port] => runtime.block_on(server::serve_baseline(port.parse()?)),
        ["receive"] => runtime.block_on(receive::measure()),
        ["sinks"] => runtime.block_on(sinks::measure()),
        [] => {
            runtime.block_on(receive::measure())?;
            println!();
            runtime.block_on(sinks::measure())
        }
        _ => bail!("expected nothing, receive or sinks"),
    }
}
