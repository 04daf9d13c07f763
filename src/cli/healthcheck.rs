//! `healthcheck`

use std::process::ExitCode;

use anyhow::bail;
use reqwest::Method;
use serde_json::Value;

use super::client::Client;
use super::output;
use crate::config::Config;

/// Exit 0 when the receiver on this host is ready: for container health checks
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  HEALTHCHECK CMD [\"/plugchat-receiver\", \"healthcheck\"]")]
pub(super) struct Healthcheck {}

impl Healthcheck {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let (status, body) = Client::new(config)?.ask(Method::GET, "/readyz", &[]).await?;
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        if status.is_success() && answer["ready"] == true {
            output::line("ready");
            return Ok(ExitCode::SUCCESS);
        }
        let failing = answer["checks"].as_object().into_iter().flatten().filter(|(_, check)| check["ok"] != true);
        let failing: Vec<String> = failing
            .map(|(name, check)| {
                check["detail"].as_str().map_or_else(|| name.clone(), |detail| format!("{name} ({detail})"))
            })
            .collect();
        match (answer["ready"].is_boolean(), failing.is_empty()) {
            (true, false) => bail!("the receiver is not ready: {}", failing.join(", ")),
            (true, true) => bail!("the receiver is not ready, and does not say why"),
            _ => bail!("what answers is not this receiver ({}): is admin.listen right?", status.as_u16()),
        }
    }
}
