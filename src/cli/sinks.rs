//! `sinks`

use std::process::ExitCode;

use reqwest::Method;
use serde_json::Value;

use super::client::{Client, of_sink};
use super::output;
use crate::config::Config;
use crate::sink::Name;
use crate::visible::visible;

/// Show each sink: state, lag, deferred, dead, last success, last error; and when each instance was last heard of
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  plugchat-receiver sinks\n  plugchat-receiver sinks pause crm\n  plugchat-receiver sinks resume crm"
)]
pub(super) struct Sinks {
    #[command(subcommand)]
    action: Option<Action>,

    /// Print the API's JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Give a sink nothing until it is resumed, over a restart, too; its changes wait in the store
    #[command(after_help = "Example:\n  plugchat-receiver sinks pause crm")]
    Pause(One),
    /// Give a sink its changes again; one that is away is tried at once
    #[command(after_help = "Example:\n  plugchat-receiver sinks resume crm")]
    Resume(One),
}

#[derive(Debug, clap::Args)]
struct One {
    /// The sink's name.
    name: Name,
    /// Print the API's JSON.
    #[arg(long)]
    json: bool,
}

impl Sinks {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let client = Client::new(config)?;
        let (sinks, json) = match self.action {
            None => (Value::Array(client.fetch_list("/api/v1/sinks", &[], &["name", "state"]).await?), self.json),
            Some(Action::Pause(one)) => (steer(&client, &one.name, "pause").await?, one.json),
            Some(Action::Resume(one)) => (steer(&client, &one.name, "resume").await?, one.json),
        };
        if json {
            output::json(&sinks)?;
            return Ok(ExitCode::SUCCESS);
        }
        match &sinks {
            Value::Array(sinks) => {
                show_sinks(sinks);
                let keys = ["instance_id", "last_callback_at", "silent"];
                show_instances(&client.fetch_list("/api/v1/instances", &[], &keys).await?);
            }
            one => output::line(&format!("{}: {}", text(&one["name"]), state(one))),
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn steer(client: &Client, name: &Name, how: &str) -> anyhow::Result<Value> {
    client.fetch_object(Method::POST, &of_sink(name, how), &[], &["name", "state"]).await
}

fn show_sinks(sinks: &[Value]) {
    if sinks.is_empty() {
        output::remark("there is no sink");
        return;
    }
    let columns = ["NAME", "STATE", "LAG", "DEFERRED", "DEAD", "LAST SUCCESS", "LAST ERROR"];
    table(columns, sinks, |sink| {
        let number = |key: &str| sink[key].as_i64().map_or_else(|| "-".to_owned(), |number| number.to_string());
        [
            text(&sink["name"]),
            state(sink),
            number("lag"),
            number("deferred"),
            number("dead"),
            text(&sink["last_success"]),
            text(&sink["last_error"]),
        ]
    });
}

fn show_instances(instances: &[Value]) {
    if instances.is_empty() {
        output::remark("no callback has come yet");
        return;
    }
    output::line("");
    table(["INSTANCE", "LAST CALLBACK", "STATE"], instances, |instance| {
        let state = if instance["silent"] == true { "silent for unusually long" } else { "heard" };
        [text(&instance["instance_id"]), text(&instance["last_callback_at"]), state.to_owned()]
    });
}

/// Numbers stand to the right.
fn table<const N: usize>(columns: [&str; N], values: &[Value], row: impl Fn(&Value) -> [String; N]) {
    let rows: Vec<[String; N]> = std::iter::once(columns.map(str::to_owned)).chain(values.iter().map(row)).collect();
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default());
    for row in rows {
        let cells = row.iter().zip(widths).zip(columns).map(|((cell, width), column)| match column {
            "LAG" | "DEFERRED" | "DEAD" => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        output::line(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// The state, and what is to be known with it.
fn state(sink: &Value) -> String {
    let state = text(&sink["state"]);
    let mut state = match state.as_str() {
        "paused" => format!("paused ({})", text(&sink["paused"])),
        "away" => format!("away since {}", text(&sink["away_since"])),
        "held" => format!("held: {}", text(&sink["held"])),
        _ => state,
    };
    if sink["replay"].is_object() {
        state.push_str(", replaying");
    }
    state
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| "-".to_owned(), visible)
}
