//! `check`

mod report;

use std::path::Path;
use std::process::ExitCode;

use super::output;
use crate::config::Config;
use report::Report;

/// Read the configuration and say what it means, secrets hidden
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  plugchat-receiver check --config config.toml")]
pub(super) struct Check {
    /// Reach every sink, too.
    #[arg(long)]
    connect: bool,

    /// Print the same as a JSON object.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self, config: &Config, file: Option<&Path>) -> anyhow::Result<ExitCode> {
        let mut report = Report::new(config, file)?;
        if self.connect {
            super::block_on(report.reach(config))?;
        }
        if self.json {
            output::json(&report)?;
        } else {
            report.print();
        }
        Ok(if report.is_all_reached() { ExitCode::SUCCESS } else { ExitCode::from(2) })
    }
}
