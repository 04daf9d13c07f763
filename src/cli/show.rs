//! `show`

use std::process::ExitCode;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::client::{Client, understand};
use super::output;
use crate::config::Config;
use crate::phone::mask;
use crate::visible::visible;

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

/// What is shown of a message. The callbacks are left out: valid ones may have numbers and texts in them that no value can hold.
#[derive(Deserialize)]
struct Message {
    recipients: Vec<Recipient>,
}

#[derive(Deserialize)]
struct Recipient {
    instance_id: Option<String>,
    recipient: Option<String>,
    status: Option<String>,
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    status: Option<String>,
    transition: Option<String>,
    moment: Option<String>,
    received_at: Option<String>,
    #[serde(default)]
    sinks: Map<String, Value>,
    #[serde(default)]
    exceptions: Value,
}

impl Show {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let path = format!("/api/v1/messages/{}", utf8_percent_encode(&self.message_id, NON_ALPHANUMERIC));
        let body: Box<RawValue> = Client::new(config)?.fetch(Method::GET, &path, &[]).await?;
        let message: Message = understand(body.get())?;
        if self.json {
            output::json(&body)?;
            return Ok(ExitCode::SUCCESS);
        }
        output::line(&format!("message {}", visible(&self.message_id)));
        for recipient in &message.recipients {
            output::line(&format!(
                "\nto {} in {}: {}",
                mask(&text(recipient.recipient.as_deref())),
                text(recipient.instance_id.as_deref()),
                text(recipient.status.as_deref())
            ));
            for change in &recipient.changes {
                let sinks = change.sinks.iter();
                let sinks: Vec<String> = sinks
                    .map(|(name, state)| format!("{name} {}{}", text(state.as_str()), more(&change.exceptions[name])))
                    .collect();
                output::line(&format!(
                    "  {:<10} {:<9} happened {:<20} arrived {:<24} {}",
                    text(change.status.as_deref()),
                    text(change.transition.as_deref()),
                    text(change.moment.as_deref()),
                    text(change.received_at.as_deref()),
                    visible(&sinks.join(", "))
                ));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(value: Option<&str>) -> String {
    value.map_or_else(|| "-".to_owned(), visible)
}

/// What else is known of a change at a sink that does not have it.
fn more(exception: &Value) -> String {
    let attempts = &exception["attempts"];
    match exception["state"].as_str() {
        Some("deferred") => format!(" (attempts {attempts}, due {})", text(exception["due_at"].as_str())),
        Some("dead") => format!(
            " (letter {}, attempts {attempts}, {})",
            exception["id"],
            exception["cause"].as_str().unwrap_or_default()
        ),
        _ => String::new(),
    }
}
