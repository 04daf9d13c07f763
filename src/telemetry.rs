//! The program's own log, on standard output: what happened, to what, and what follows.

use std::io::IsTerminal as _;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{FilterFn, LevelFilter};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use crate::status::with_milliseconds;

/// Clients of destinations that would log passwords and whole messages, or what their sinks report: none of their lines is written,
/// at any level. What they have to say of a failure is in the failure's cause.
const SILENT: [&str; 2] = ["async_nats", "lapin"];

/// The program's own log.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How lines look. Unset: `pretty` on a terminal, else `json`.
    pub format: Option<Format>,
    /// The lowest level that is written; also per target, as in `"info,plugchat_receiver::http=debug"`.
    pub level: Level,
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// A level, or several by target.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Level(String);

impl Default for Level {
    fn default() -> Self {
        Self("info".into())
    }
}

impl TryFrom<String> for Level {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // A word that is no level would be taken for a target, and silence all others.
        let is_level = |part: &str| part.contains('=') || part.parse::<LevelFilter>().is_ok();
        match EnvFilter::builder().parse(&text) {
            Ok(_) if text.split(',').all(|part| is_level(part.trim())) => Ok(Self(text)),
            _ => Err(
                "expected error, warn, info, debug or trace, or a list such as \"info,plugchat_receiver::http=debug\""
                    .into(),
            ),
        }
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Config {
    /// Whether lines are for people.
    pub(crate) fn is_pretty(&self) -> bool {
        self.format.map_or_else(|| std::io::stdout().is_terminal(), |format| format == Format::Pretty)
    }
}

/// Starts the log. Lines are written until [`end`].
///
/// Writing never blocks the program: when nobody reads standard output, lines of the program's own log are lost, and callbacks are
/// taken all the same. (The log sink waits, and loses nothing.)
pub fn start(config: &Config) -> WorkerGuard {
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(8192).lossy(true).finish(std::io::stdout());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&config.level.0))
        .with_timer(Utc)
        .with_writer(writer)
        .with_ansi(
            std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        );
    if config.is_pretty() {
        builder.with_target(false).finish().with(all_but_silent()).init();
    } else {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .finish()
            .with(all_but_silent())
            .init();
    }
    log_panics();
    guard
}

fn all_but_silent<S: tracing::Subscriber>() -> impl Layer<S> {
    FilterFn::new(|metadata| {
        let part = metadata.target().split("::").next().unwrap_or_default();
        !SILENT.contains(&part)
    })
}

/// Ends the log: what waits is written out, but for what takes longer than `within` because nobody reads standard output.
pub fn end(log: WorkerGuard, within: Duration) {
    let (sender, ended) = std::sync::mpsc::channel::<()>();
    // On a thread, because it may never end: when the queue is full as well, the guard complains on standard output itself.
    // The process ends without it.
    let ending = std::thread::Builder::new().name("log-end".into()).spawn(move || {
        drop(log);
        drop(sender);
    });
    if ending.is_ok() {
        // Either way it is over now.
        let _ = ended.recv_timeout(within);
    }
}

/// A panic goes to the log, with its place and without its message, which might have data in it.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a fault in the program: please report it with this line");
    }));
}

/// Time as the log sink writes it.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        writer.write_str(&with_milliseconds(Timestamp::now()))
    }
}
