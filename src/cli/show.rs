//! `show`

use std::process::ExitCode;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::Value;
use serde_json::value::RawValue;

use super::client::Client;
use super::output::{self, visible};
use crate::config::Config;
use crate::phone::mask;

/// Show a message's history: every status with its moment, arrival and transition, and where each sink stands with it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  plugchat-receiver show 3EB0C431C26A1916E07E")]
pub(super) struct Show {
    /// WhatsApp's id of the message, as in the callback's `ids`.
    message_id: String,

    /// Print the API's JSON, phone numbers in full.
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let path = format!("/api/v1/messages/{}", utf8_percent_encode(&self.message_id, NON_ALPHANUMERIC));
        let body: Box<RawValue> = Client::new(config)?.fetch(Method::GET, &path, &[]).await?;
        if self.json {
            output::json(&body)?;
            return Ok(ExitCode::SUCCESS);
        }
        let message: Value = serde_json::from_str(body.get())?;
        output::line(&format!("message {}", visible(&self.message_id)));
        for recipient in message["recipients"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().map_or_else(|| "-".to_owned(), visible);
            output::line(&format!(
                "\nto {} in {}: {}",
                mask(&text(&recipient["recipient"])),
                text(&recipient["instance_id"]),
                text(&recipient["status"])
            ));
            for change in recipient["changes"].as_array().into_iter().flatten() {
                let sinks = change["sinks"].as_object().into_iter().flatten();
                let sinks: Vec<String> = sinks
                    .map(|(name, state)| format!("{name} {}{}", text(state), more(&change["exceptions"][name])))
                    .collect();
                output::line(&format!(
                    "  {:<10} {:<9} happened {:<20} arrived {:<24} {}",
                    text(&change["status"]),
                    text(&change["transition"]),
                    text(&change["moment"]),
                    text(&change["received_at"]),
                    sinks.join(", ")
                ));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What else is known of a change at a sink that does not have it.
fn more(exception: &Value) -> String {
    let attempts = &exception["attempts"];
    match exception["state"].as_str() {
        Some("deferred") => {
            format!(
                " (attempts {attempts}, due {})",
                exception["due_at"].as_str().map_or_else(|| "-".to_owned(), visible)
            )
        }
        Some("dead") => format!(
            " (letter {}, attempts {attempts}, {})",
            exception["id"],
            visible(exception["cause"].as_str().unwrap_or_default())
        ),
        _ => String::new(),
    }
}
