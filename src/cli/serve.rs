//! `serve`

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::output;
use crate::config::Config;
use crate::service::{self, Ready, Service};
use crate::systemd::{Listeners, Notifier};
use crate::telemetry;

/// How long what still runs after the service may take to end.
const LEFTOVERS_WITHIN: Duration = Duration::from_millis(100);

/// Open files besides the connections of callers: the operator's and followers', those to destinations, the store's.
const OTHER_FILES: u64 = 384;

/// Receive callbacks and deliver status changes until SIGTERM, SIGINT or SIGHUP
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  plugchat-receiver serve --config /etc/plugchat-receiver/config.toml")]
pub(super) struct Serve {}

impl Serve {
    #[expect(clippy::unused_self, reason = "all commands are called alike")]
    pub(super) fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        // Before the log, which has a thread of its own.
        let listeners = Listeners::take()?;
        let log = telemetry::start(&config.log);
        raise_open_files(config.server.limits.connections);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = runtime.block_on(async {
            // Before anything else: as the first process of a container it would otherwise ignore them.
            let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
            let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
            let hangup = match is_hangup_ignored() {
                true => None,
                false => Some(signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?),
            };
            let hung_up = async {
                match hangup {
                    Some(mut hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            let mut service = Service::new(config);
            service.listen_on(listeners);
            if let Some(notifier) = Notifier::from_env()? {
                service.notify(notifier);
            }
            service.on_ready(say_what_next);
            service
                .run(async {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                        _ = hung_up => {}
                    }
                })
                .await
        });
        // A log sink may still be writing to a pipe that nobody reads: its lines come again at the next start.
        runtime.shutdown_timeout(LEFTOVERS_WITHIN);
        telemetry::end(log, service::LOG_WITHIN.saturating_sub(LEFTOVERS_WITHIN));
        result.map(|()| ExitCode::SUCCESS)
    }
}

/// Each connection is an open file, and the usual limit of 1024 would be reached long before `limits.connections`. The hard
/// limit is the administrator's.
fn raise_open_files(connections: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files: there may be fewer connections than configured");
    }
    let Some(open_files) = getrlimit(Resource::Nofile).current else { return };
    if (connections as u64).saturating_add(OTHER_FILES) > open_files {
        tracing::warn!(
            connections,
            open_files,
            "there may be more connections than open files: lower server.limits.connections, or raise the limit of open files"
        );
    }
}

/// Whether whoever started it wants it to outlive their terminal, as `nohup` does.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The lowest bit is signal 1, which this is.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// For somebody who looks on. Never where it would be kept: the URL has the secret in it.
fn say_what_next(ready: &Ready) {
    if std::io::stderr().is_terminal() {
        output::remark(&format!(
            "\nCallback URL to register as messageStatus (it has the secret in it):\n  {}\n\nTry it from another terminal:\n  plugchat-receiver send\n",
            ready.callback_url
        ));
    }
}
