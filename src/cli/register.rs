//! `register`

use std::process::ExitCode;

use crate::config::Config;

/// Register the public URL as messageStatus at Plugchat
#[derive(Debug, clap::Args)]
pub(super) struct Register {}

impl Register {
    pub(super) async fn run(self, _config: &Config) -> anyhow::Result<ExitCode> {
        Ok(ExitCode::SUCCESS)
    }
}
