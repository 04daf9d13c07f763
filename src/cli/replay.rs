//! `replay`

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::client::{Client, of_sink};
use super::output;
use crate::config::Config;
use crate::sink::Name;

/// Hand stored changes to one sink again, with the same event ids, beside its fresh ones
///
/// Follows the replay until it is done; Ctrl-C cancels it. What the sink has still to be given is not replayed: it comes anyway.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  plugchat-receiver replay --sink crm --since 2h --dry-run\n  plugchat-receiver replay --sink crm --since 2026-11-22T12:00:00Z --until 2026-11-22T13:00:00Z --rate 50"
)]
pub(super) struct Replay {
    /// The sink's name.
    #[arg(long, value_name = "NAME")]
    sink: Name,
    /// Changes received at this time or later: RFC 3339, or how long ago, such as "2h" or "3d".
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    since: Timestamp,
    /// And before this one [default: all that the sink was given].
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    until: Option<Timestamp>,
    /// Changes a second at most [default: 100].
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Say how many changes it covers, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the API's JSON.
    #[arg(long)]
    json: bool,
}

/// How often it is asked how far the replay has come.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Replay {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let client = Client::new(config)?;
        let mut query = vec![("since", self.since.to_string())];
        query.extend(self.until.map(|until| ("until", until.to_string())));
        query.extend(self.rate.map(|rate| ("rate", rate.to_string())));
        query.extend(self.dry_run.then(|| ("dry_run", "true".to_owned())));
        let path = of_sink(&self.sink, "replay");
        // Before it begins: from now on Ctrl-C has something to cancel.
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
        let answer = client.fetch_object(Method::POST, &path, &query, &["changes", "started"]).await?;
        let changes = answer["changes"].as_u64().unwrap_or_default();
        let begins = answer["started"] == true;
        if !self.json {
            let what = if begins { "replaying" } else { "nothing is replayed:" };
            let what = if self.dry_run { "would replay" } else { what };
            output::line(&format!("{what} {changes} changes, less what the filter of {} keeps out", self.sink));
        }
        if !begins {
            if self.json {
                output::json(&answer)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let ended = tokio::select! {
            ended = self.follow(&client, &answer) => ended?,
            _ = interrupt.recv() => {
                let sink: Value = client.fetch(Method::POST, &of_sink(&self.sink, "replay/cancel"), &[]).await?;
                sink["last_replay"].clone()
            }
        };
        if self.json {
            output::json(&ended)?;
        } else {
            let how = ended["how"].as_str().unwrap_or("over");
            output::line(&format!("{how}: {} changes were given to {}", ended["delivered"], self.sink));
        }
        Ok(if ended["how"] == "cancelled" { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// Looks on until it is over; how it ended.
    async fn follow(&self, client: &Client, answer: &Value) -> anyhow::Result<Value> {
        let (from, until) =
            (answer["position"].as_u64().unwrap_or_default(), answer["until"].as_u64().unwrap_or_default());
        let bar = match std::io::stderr().is_terminal() {
            true => ProgressBar::new(until.saturating_sub(from)).with_style(style()?),
            false => ProgressBar::hidden(),
        };
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            let sinks = client
                .fetch_list("/api/v1/sinks", &[], &["name", "state"])
                .await
                .context("the replay can't be followed any more; it goes on with the receiver")?;
            let Some(sink) = sinks.into_iter().find(|sink| sink["name"] == self.sink.as_str()) else {
                bail!("the receiver doesn't know {} any more", self.sink);
            };
            if sink["replay"].is_null() {
                bar.finish_and_clear();
                return Ok(sink["last_replay"].clone());
            }
            bar.set_position(sink["replay"]["position"].as_u64().unwrap_or_default().saturating_sub(from));
            let state = sink["state"].as_str().unwrap_or("delivering");
            let waits =
                if state == "delivering" { String::new() } else { format!("the sink is {state}: the replay waits") };
            if bar.is_hidden() && waits != bar.message() && !waits.is_empty() {
                output::remark(&waits);
            }
            bar.set_message(waits);
        }
    }
}

fn style() -> anyhow::Result<ProgressStyle> {
    Ok(ProgressStyle::with_template("{wide_bar} {percent:>3} %, {elapsed} gone, {eta} to go {msg}")?)
}
