//! `dead`

use std::process::ExitCode;

use anyhow::bail;
use clap::builder::PossibleValuesParser;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Usage;
use super::client::{Client, UNEXPECTED, of_sink, understand};
use super::output;
use crate::config::Config;
use crate::phone::mask;
use crate::sink::Name;
use crate::visible::visible;

/// List, retry or drop a sink's dead letters: changes that it refused, or that ran out of attempts
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  plugchat-receiver dead list --sink crm\n  plugchat-receiver dead retry --sink crm --reason exhausted\n  plugchat-receiver dead drop --sink crm --id 7"
)]
pub(super) struct Dead {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List them, in the order they died
    #[command(after_help = "Example:\n  plugchat-receiver dead list --sink crm --reason refused")]
    List {
        #[command(flatten)]
        which: Which,
    },
    /// Give them again at once, with all their attempts before them
    #[command(after_help = "Example:\n  plugchat-receiver dead retry --sink crm --dry-run")]
    Retry {
        #[command(flatten)]
        which: Which,
        /// Say how many, and do nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Let them go for good
    #[command(after_help = "Example:\n  plugchat-receiver dead drop --sink crm --reason refused --yes")]
    Drop {
        #[command(flatten)]
        which: Which,
        /// Say how many, and do nothing.
        #[arg(long)]
        dry_run: bool,
        /// Yes, even when it is more than one.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The sink's name.
    #[arg(long, value_name = "NAME")]
    sink: Name,
    /// Only those with this reason.
    #[arg(long, value_parser = PossibleValuesParser::new(["refused", "exhausted", "undeliverable"]))]
    reason: Option<String>,
    /// Only the one with this number in the list.
    #[arg(long)]
    id: Option<i64>,
    /// Print the API's JSON.
    #[arg(long)]
    json: bool,
}

impl Which {
    fn query(&self) -> Vec<(&'static str, String)> {
        let reason = self.reason.iter().map(|reason| ("reason", reason.clone()));
        reason.chain(self.id.map(|id| ("id", id.to_string()))).collect()
    }
}

impl Dead {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let client = Client::new(config)?;
        match self.action {
            Action::List { which } => list(&client, &which).await,
            Action::Retry { which, dry_run } => retry(&client, &which, dry_run).await,
            Action::Drop { which, dry_run, yes } => drop(&client, &which, dry_run, yes).await,
        }
    }
}

/// How many are asked for at once.
const PAGE: usize = 1000;

async fn list(client: &Client, which: &Which) -> anyhow::Result<ExitCode> {
    let (path, mut after) = (of_sink(&which.sink, "dead"), 0);
    let mut all = Vec::new();
    loop {
        let mut query = which.query();
        query.extend([("after", after.to_string()), ("limit", PAGE.to_string())]);
        let page: Vec<Box<RawValue>> = client.fetch(Method::GET, &path, &query).await?;
        let is_last = page.len() < PAGE;
        for letter in page {
            let read: Letter = understand(letter.get())?;
            // The order they died in. What has another order is no answer of this receiver, and might never end.
            anyhow::ensure!(read.id > after, UNEXPECTED);
            after = read.id;
            if which.json {
                all.push(letter);
            } else {
                output::line(&describe(&read));
            }
        }
        if is_last {
            break;
        }
    }
    if which.json {
        output::json(&all)?;
    } else if after == 0 {
        output::remark("there are no such dead letters");
    }
    Ok(ExitCode::SUCCESS)
}

/// What is shown of a dead letter. The callback is left out: a valid one may have numbers and texts in it that no value can hold.
#[derive(Deserialize)]
struct Letter {
    id: i64,
    died_at: String,
    reason: String,
    attempts: i64,
    cause: String,
    change: Change,
}

#[derive(Deserialize)]
struct Change {
    status: String,
    message_id: String,
    phone: Option<String>,
    participant: Option<String>,
}

fn describe(letter: &Letter) -> String {
    let Letter { id, died_at, reason, attempts, cause, change } = letter;
    let recipient = change.participant.as_deref().or(change.phone.as_deref()).unwrap_or("-");
    visible(&format!(
        "{id:>6}  {died_at}  {reason:<13}  attempts {attempts:<3}  {} of {} to {}: {cause}",
        change.status,
        change.message_id,
        mask(recipient),
    ))
}

async fn retry(client: &Client, which: &Which, dry_run: bool) -> anyhow::Result<ExitCode> {
    let path = of_sink(&which.sink, "dead/retry");
    let counted = count(client, which, &path).await?;
    if dry_run || counted.matching == 0 {
        return counted.say(which, "would retry");
    }
    let answer = client.fetch_object(Method::POST, &path, &which.query(), &["matching", "retried"]).await?;
    if which.json {
        output::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (matching, retried) =
        (answer["matching"].as_u64().unwrap_or_default(), answer["retried"].as_u64().unwrap_or_default());
    output::line(&format!("retry: {retried} of {matching} are given again"));
    if retried < matching {
        output::remark("more would be too many deferred at once: do it again when these are delivered");
    }
    Ok(ExitCode::SUCCESS)
}

async fn drop(client: &Client, which: &Which, dry_run: bool, yes: bool) -> anyhow::Result<ExitCode> {
    let path = of_sink(&which.sink, "dead/drop");
    let counted = count(client, which, &path).await?;
    if dry_run || counted.matching == 0 {
        return counted.say(which, "would drop");
    }
    if counted.matching > 1 && !yes {
        let usage = format!("this would drop {} dead letters for good: say --yes if you mean it", counted.matching);
        return Err(Usage(usage).into());
    }
    let answer = client.fetch_object(Method::POST, &path, &which.query(), &["matching", "dropped"]).await?;
    if which.json {
        output::json(&answer)?;
    } else {
        output::line(&format!("drop: {} of {} dropped", answer["dropped"], answer["matching"]));
    }
    Ok(ExitCode::SUCCESS)
}

/// What would be done.
struct Counted {
    matching: u64,
    answer: Value,
}

/// Asks how many are meant before anything is done. One that was named has to be there.
async fn count(client: &Client, which: &Which, path: &str) -> anyhow::Result<Counted> {
    let mut query = which.query();
    query.push(("dry_run", "true".to_owned()));
    let answer = client.fetch_object(Method::POST, path, &query, &["matching"]).await?;
    let matching = answer["matching"].as_u64().unwrap_or_default();
    match which.id {
        Some(id) if matching == 0 => bail!("{} has no such dead letter with number {id}; see dead list", which.sink),
        _ => Ok(Counted { matching, answer }),
    }
}

impl Counted {
    fn say(&self, which: &Which, what: &str) -> anyhow::Result<ExitCode> {
        if which.json {
            output::json(&self.answer)?;
        } else {
            output::line(&format!("{what} {}", self.matching));
        }
        Ok(ExitCode::SUCCESS)
    }
}
