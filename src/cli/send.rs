//! `send`
//!
//! `bodies` says what is posted one by one, `lifecycle` makes up what is posted by the thousand, `target` posts, `load` keeps
//! many connections at it.

mod bodies;
mod latency;
mod lifecycle;
mod load;
mod random;
mod tally;
mod target;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

use super::output;
use crate::config::Config;
use bodies::Bodies;
use load::Load;
use target::{Outcome, Target};

/// Post callbacks to a receiver as Plugchat would
///
/// Without options, the five callbacks of Plugchat's page, in its order.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  plugchat-receiver send\n  plugchat-receiver send --status READ --id 3EB0C431C26A1916E07E --phone 5544999999999\n  plugchat-receiver send --file callbacks.jsonl\n  plugchat-receiver send --count 10000 --rate 500"
)]
pub(super) struct Send {
    /// The callback URL to post to, secret and all [default: that of this configuration's receiver, on this host].
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// Post one callback with this status.
    #[arg(long, requires_all = ["id", "phone"], conflicts_with_all = ["file", "count"])]
    status: Option<String>,

    /// Its message ids; repeat the option for several.
    #[arg(long, requires = "status")]
    id: Vec<String>,

    /// Its chat: digits, `…-group` or `status@broadcast`.
    #[arg(long, requires = "status")]
    phone: Option<String>,

    /// Who in the group, or which viewer of the story.
    #[arg(long, requires = "status")]
    participant: Option<String>,

    /// The connected account.
    #[arg(long, requires = "status", default_value = "instance.id")]
    instance: String,

    /// When it happened, as 2026-11-22T12:00:00Z [default: now].
    #[arg(long, requires = "status", value_name = "TIME")]
    moment: Option<Timestamp>,

    /// Post each line of a file as it is, but for empty ones; `-` is standard input.
    #[arg(long, conflicts_with = "count")]
    file: Option<PathBuf>,

    /// Post this many made-up callbacks, of messages that live as real ones do.
    #[arg(long, value_name = "CALLBACKS", value_parser = clap::value_parser!(u64).range(1..=load::MAX_COUNT))]
    count: Option<u64>,

    /// How many to post in a second [default: the next one as soon as one is answered].
    #[arg(long, requires = "count", value_parser = rate)]
    rate: Option<f64>,

    /// How many connections to post them on.
    #[arg(long, requires = "count", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,

    /// How long an answer may take.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = super::duration)]
    timeout: Duration,

    /// Print the answers as a JSON array; with --count, what became of all as one object.
    #[arg(long)]
    json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=1e6).contains(&rate) => Ok(rate),
        _ => Err("expected a number of callbacks a second, such as 500".into()),
    }
}

impl Send {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let target = Target::new(config, self.url.as_deref(), self.timeout)?;
        let is_all_well = match self.count {
            Some(count) => {
                let load = Load { count, rate: self.rate, connections: self.connections };
                let summary = load.run(target).await?;
                if self.json {
                    output::json(&summary)?;
                } else {
                    output::line(&summary.to_string());
                }
                summary.taken() == count
            }
            None => self.one_by_one(&target).await?,
        };
        Ok(if is_all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Whether all were taken. Whoever gives no answer is not asked again.
    async fn one_by_one(&self, target: &Target) -> anyhow::Result<bool> {
        let mut outcomes = Vec::new();
        let result = self.post_each(target, &mut outcomes).await;
        if self.json {
            output::json(&outcomes)?;
        }
        result?;
        let taken = outcomes.iter().filter(|outcome| outcome.is_taken()).count();
        if !self.json && taken < outcomes.len() {
            output::remark(&format!("{taken} of {} were taken", outcomes.len()));
        }
        Ok(taken == outcomes.len())
    }

    async fn post_each(&self, target: &Target, outcomes: &mut Vec<Outcome>) -> anyhow::Result<()> {
        for body in self.bodies()? {
            let body = body?;
            let label = body.label();
            match target.post(body.bytes).await {
                Ok(outcome) => {
                    if !self.json {
                        output::line(&format!("{label}: {outcome}"));
                    }
                    outcomes.push(outcome);
                }
                Err(why) => {
                    outcomes.push(Outcome::unanswered(&why));
                    return Err(target.no_answer(&why));
                }
            }
        }
        Ok(())
    }

    fn bodies(&self) -> anyhow::Result<Bodies> {
        if let Some(file) = &self.file {
            return bodies::of_file(file);
        }
        let (Some(status), Some(phone)) = (&self.status, &self.phone) else {
            return Ok(bodies::documented());
        };
        Ok(bodies::one(&crate::callback::Draft {
            instance_id: self.instance.clone(),
            status: status.clone(),
            ids: self.id.clone(),
            // Whole seconds, as the vendors send them, unless somebody wants others.
            moment_ms: self.moment.map_or_else(|| Timestamp::now().as_second() * 1000, Timestamp::as_millisecond),
            phone: phone.clone(),
            participant: self.participant.clone(),
            device: 0,
        }))
    }
}
