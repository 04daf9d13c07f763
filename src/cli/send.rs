//! `send`

use std::process::ExitCode;

use crate::config::Config;

/// Post callbacks to a receiver as Plugchat would
#[derive(Debug, clap::Args)]
pub(super) struct Send {}

impl Send {
    pub(super) async fn run(self, _config: &Config) -> anyhow::Result<ExitCode> {
        Ok(ExitCode::SUCCESS)
    }
}
