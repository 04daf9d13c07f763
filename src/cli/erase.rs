//! `erase`

use std::process::ExitCode;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::client::Client;
use super::{Usage, output};
use crate::config::Config;
use crate::phone::Number;
use crate::visible::visible;

/// Erase what is stored of one person: status changes, what is known of their messages, dead letters and rejected callbacks
///
/// Whatever has the number in it is deleted, whole, and overwritten in the database's files. What comes in later counts as new.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  plugchat-receiver erase --phone '+55 (44) 99999-9999' --dry-run\n  plugchat-receiver erase --phone 123456789012345@lid"
)]
pub(super) struct Erase {
    /// The person's phone number with its country code, in any form, or their account id.
    #[arg(long, value_name = "PHONE")]
    phone: String,
    /// Say how much there is, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the API's JSON.
    #[arg(long)]
    json: bool,
}

/// It looks through all that is stored.
const WITHIN: Duration = Duration::from_secs(3600);

/// What is counted, and what people call it.
const COUNTED: [(&str, &str); 6] = [
    ("changes", "status changes"),
    ("messages", "messages with what was seen of them"),
    ("deferred", "deliveries that would have been tried again"),
    ("dead_letters", "dead letters"),
    ("rejected", "rejected callbacks"),
    ("instances", "instances that are known by it"),
];

impl Erase {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let number = Number::parse(&self.phone).map_err(|error| Usage(format!("--phone: {error}")))?;
        let client = Client::new(config)?.waiting(WITHIN);
        let query = [("phone", self.phone), ("dry_run", self.dry_run.to_string())];
        let keys = ["changes", "messages", "deferred", "dead_letters", "rejected", "instances", "sinks"];
        let answer = client.fetch_object(Method::POST, "/api/v1/erase", &query, &keys).await?;
        if self.json {
            output::json(&answer)?;
        } else {
            let done = if self.dry_run { "there is of" } else { "erased of" };
            output::line(&format!("{done} {}:", visible(&number.masked())));
            for (key, what) in COUNTED {
                output::line(&format!("{:>9}  {what}", answer[key].to_string()));
            }
        }
        if COUNTED.iter().all(|(key, _)| answer[key] == 0) {
            output::remark("nothing has this number in it; is it whole, with its country code?");
        }
        let sinks: Vec<_> = answer["sinks"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let given = if sinks.is_empty() { String::new() } else { format!("what {} handed on, ", sinks.join(", ")) };
        output::remark(&format!(
            "not reached by this: {given}backups, and an account id (…@lid) that the person may also have"
        ));
        Ok(ExitCode::SUCCESS)
    }
}
