//! `completions`

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Arguments, output};

/// Print shell completions
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  plugchat-receiver completions bash > /etc/bash_completion.d/plugchat-receiver")]
pub(super) struct Completions {
    /// The shell they are for.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "plugchat-receiver", &mut script);
        output::line(String::from_utf8(script)?.trim_end());
        Ok(ExitCode::SUCCESS)
    }
}
