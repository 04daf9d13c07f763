//! The commands.
//!
//! Errors go to standard error and say what to do; exit 2 is for a wrong call or configuration, 1 for anything else.

mod backup;
mod check;
mod client;
mod completions;
mod dead;
mod erase;
mod healthcheck;
mod output;
mod register;
mod rejected;
mod replay;
mod send;
mod serve;
mod show;
mod sinks;
mod tail;
mod url;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use jiff::Timestamp;

use crate::config;

/// What `--version` says; `-V` says the first line.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit ",
    env!("BUILD_COMMIT"),
    "\n",
    env!("BUILD_RUSTC"),
    "\nfor ",
    env!("BUILD_TARGET")
);

/// Receives WhatsApp message-status callbacks from Plugchat and Z-API, durably, and hands each status change on.
#[derive(Debug, Parser)]
#[command(name = "plugchat-receiver", version, long_version = LONG_VERSION, arg_required_else_help = true)]
struct Arguments {
    /// The configuration [default: the one that PLUGCHAT_RECEIVER_CONFIG names, else ./config.toml, else
    /// /etc/plugchat-receiver/config.toml, else built in].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Check(check::Check),
    Url(url::Url),
    Register(register::Register),
    Send(send::Send),
    Tail(tail::Tail),
    Show(show::Show),
    Sinks(sinks::Sinks),
    Dead(dead::Dead),
    Replay(replay::Replay),
    Rejected(rejected::Rejected),
    Erase(erase::Erase),
    Backup(backup::Backup),
    Healthcheck(healthcheck::Healthcheck),
    Completions(completions::Completions),
}

/// A wrong call or configuration, as opposed to trouble while doing what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let Arguments { config: file, command } = Arguments::parse();
    // The one provider of cryptography for everything that speaks TLS; a second call would only say that it is there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let result = match command {
        // These two need no configuration, and must work when it is broken.
        Command::Completions(command) => command.run(),
        command => config::load(file.as_deref()).map_err(anyhow::Error::from).and_then(|loaded| run(command, loaded)),
    };
    match result.and_then(|code| output::finish().map(|()| code)) {
        Ok(code) => code,
        Err(error) => {
            output::error(&format!("{error:#}"));
            let is_usage = error.chain().any(|cause| cause.is::<Usage>() || cause.is::<config::Error>());
            ExitCode::from(if is_usage { 2 } else { 1 })
        }
    }
}

fn run(command: Command, loaded: config::Loaded) -> anyhow::Result<ExitCode> {
    let config = loaded.config;
    match command {
        Command::Serve(command) => command.run(config),
        Command::Check(command) => command.run(&config, loaded.file.as_deref()),
        Command::Url(command) => command.run(&config),
        Command::Register(command) => block_on(command.run(&config)),
        Command::Send(command) => block_on(command.run(&config)),
        Command::Tail(command) => block_on(command.run(&config)),
        Command::Show(command) => block_on(command.run(&config)),
        Command::Sinks(command) => block_on(command.run(&config)),
        Command::Dead(command) => block_on(command.run(&config)),
        Command::Replay(command) => block_on(command.run(&config)),
        Command::Rejected(command) => block_on(command.run(&config)),
        Command::Erase(command) => block_on(command.run(&config)),
        Command::Backup(command) => block_on(command.run(&config)),
        Command::Healthcheck(command) => block_on(command.run(&config)),
        Command::Completions(command) => command.run(),
    }
}

/// A duration of an option, such as `30s`.
fn duration(text: &str) -> Result<Duration, String> {
    config::units::duration::parse(text)
}

/// A moment, or how long ago it was.
fn time(text: &str) -> Result<Timestamp, String> {
    let expected = "expected a time such as 2026-11-22T12:00:00Z, or how long ago, such as 2h or 3d";
    match humantime::parse_duration(text) {
        Ok(ago) => Timestamp::now().checked_sub(ago).map_err(|_| format!("is too long ago; {expected}")),
        Err(_) => text.parse().map_err(|_| expected.to_owned()),
    }
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
