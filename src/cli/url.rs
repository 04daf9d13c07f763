//! `url`

use std::process::ExitCode;

use super::output;
use crate::config::Config;
use crate::secret::Secret;

/// Print the callback URL, secret and all, for registering it by hand
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  plugchat-receiver url")]
pub(super) struct Url {}

impl Url {
    #[expect(clippy::unused_self, reason = "all commands are called alike")]
    pub(super) fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        output::line(&config.server.callback_url(&first_secret(config)?));
        if config.server.public_url.is_none() {
            output::remark(
                "server.public_url is not set: this URL works on this host only, and Plugchat takes only https",
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The secret that is registered. Without one configured it is made, as `serve` would.
pub(super) fn first_secret(config: &Config) -> anyhow::Result<Secret> {
    let secrets = config.server.load_secrets(&config.store.sqlite.path)?;
    secrets.into_iter().next().ok_or_else(|| super::Usage("no secret is configured".into()).into())
}
