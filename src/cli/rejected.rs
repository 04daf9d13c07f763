//! `rejected`

use std::process::ExitCode;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::Value;

use super::Usage;
use super::client::{Client, UNEXPECTED};
use super::output;
use crate::config::Config;
use crate::visible::visible;

/// List, show, retry or drop bodies that were no valid callback
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  plugchat-receiver rejected list\n  plugchat-receiver rejected show 7\n  plugchat-receiver rejected retry --all"
)]
pub(super) struct Rejected {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List them, newest first
    #[command(after_help = "Example:\n  plugchat-receiver rejected list --limit 20")]
    List {
        /// How many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Print the API's JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one, body and all
    #[command(after_help = "Example:\n  plugchat-receiver rejected show 7")]
    Show {
        /// Its number in the list.
        id: i64,
        /// Print the API's JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read them anew, as after an upgrade: what is valid now is stored and delivered
    #[command(after_help = "Example:\n  plugchat-receiver rejected retry 7")]
    Retry(Which),
    /// Let them go for good
    #[command(after_help = "Example:\n  plugchat-receiver rejected drop 7")]
    Drop(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Their numbers in the list.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<i64>,
    /// All of them.
    #[arg(long)]
    all: bool,
    /// Say which, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Rejected {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let client = Client::new(config)?;
        match self.action {
            Action::List { limit, json } => list(&client, limit, json).await,
            Action::Show { id, json } => show(&client, id, json).await,
            Action::Retry(which) => each(&client, "retry", which).await,
            Action::Drop(which) => each(&client, "drop", which).await,
        }
    }
}

async fn list(client: &Client, limit: u16, json: bool) -> anyhow::Result<ExitCode> {
    let query = [("limit", limit.to_string())];
    let listed = client.fetch_list("/api/v1/rejected", &query, &["id", "received_at", "bytes", "errors"]).await?;
    if json {
        output::json(&listed)?;
        return Ok(ExitCode::SUCCESS);
    }
    if listed.is_empty() {
        output::remark("no callback is kept as rejected");
    }
    for one in listed {
        output::line(&format!(
            "{:>6}  {}  {:>6} bytes  {}",
            one["id"],
            one["received_at"].as_str().unwrap_or("-"),
            one["bytes"],
            reasons(&one["errors"])
        ));
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(client: &Client, id: i64, json: bool) -> anyhow::Result<ExitCode> {
    let path = format!("/api/v1/rejected/{id}");
    let one = client.fetch_object(Method::GET, &path, &[], &["received_at", "errors", "body"]).await?;
    if json {
        output::json(&one)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(&format!("received {}, {}", one["received_at"].as_str().unwrap_or("-"), reasons(&one["errors"])));
    output::line(&visible(one["body"].as_str().unwrap_or_default()));
    Ok(ExitCode::SUCCESS)
}

/// Does one thing with each; those that it can't be done with are named, and the others done all the same.
async fn each(client: &Client, action: &str, which: Which) -> anyhow::Result<ExitCode> {
    let ids = if which.all { all(client).await? } else { which.ids };
    if which.dry_run {
        output::line(&format!("would {action} {}: {ids:?}", ids.len()));
        return Ok(ExitCode::SUCCESS);
    }
    let mut failed = 0;
    for id in &ids {
        let (status, body) = client.ask(Method::POST, &format!("/api/v1/rejected/{id}/{action}"), &[]).await?;
        if status == reqwest::StatusCode::UNAUTHORIZED {
            return Err(Usage(client.explain(status, &body)).into());
        }
        if !status.is_success() {
            failed += 1;
            output::error(&format!("{id}: {}", client.explain(status, &body)));
        }
    }
    output::line(&format!("{action}: {} of {} done", ids.len() - failed, ids.len()));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn all(client: &Client) -> anyhow::Result<Vec<i64>> {
    let mut ids: Vec<i64> = Vec::new();
    loop {
        let mut query = vec![("limit", "1000".to_owned())];
        query.extend(ids.last().map(|id| ("before", id.to_string())));
        let page = client.fetch_list("/api/v1/rejected", &query, &["id"]).await?;
        if page.is_empty() {
            return Ok(ids);
        }
        for one in page {
            // The newest come first. What has another order is no answer of this receiver, and might never end.
            let id = one["id"].as_i64().filter(|id| ids.last().is_none_or(|last| id < last));
            ids.push(id.context(UNEXPECTED)?);
        }
    }
}

fn reasons(errors: &Value) -> String {
    let reasons = errors.as_array().into_iter().flatten().map(|error| {
        format!("{} {}", error["pointer"].as_str().unwrap_or_default(), error["detail"].as_str().unwrap_or_default())
    });
    visible(&reasons.collect::<Vec<_>>().join("; "))
}
