//! `register`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use super::url::first_secret;
use super::{Usage, output};
use crate::config::Config;
use crate::plugchat::{CallbackUrl, Client};
use crate::secret::Secret;

/// Register the public URL as messageStatus at Plugchat
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  plugchat-receiver register --dry-run\n  plugchat-receiver register --token-file plugchat-token"
)]
pub(super) struct Register {
    /// The callback URL to register, secret and all, instead of the configured one.
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// A file with Plugchat's Authorization Token, instead of the configured one.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Print what would be sent, secrets hidden, and send nothing.
    #[arg(long)]
    dry_run: bool,

    /// How long Plugchat may take to answer.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = super::duration)]
    timeout: Duration,
}

impl Register {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let url = self.callback_url(config)?;
        let client = Client::new(&config.plugchat, self.token(config)?, self.timeout).map_err(Usage)?;
        if self.dry_run {
            output::line(&client.preview(&url));
            output::remark("dry run: nothing was sent");
            return Ok(ExitCode::SUCCESS);
        }
        let accepted = client.set_message_status(&url).await.with_context(|| format!("{url} is not registered"))?;
        output::line(&format!("registered {url} as messageStatus ({})", accepted.status.as_u16()));
        if let Some(said) = accepted.said {
            output::remark(&format!("Plugchat said: {said}"));
        }
        output::remark(
            "Plugchat does not say what it stored, so confirm it with a real event: send a WhatsApp message from the \
             connected account and look for its status in the receiver's log.",
        );
        Ok(ExitCode::SUCCESS)
    }

    fn callback_url(&self, config: &Config) -> anyhow::Result<CallbackUrl> {
        if let Some(url) = &self.url {
            return Ok(CallbackUrl::parse(url).map_err(|error| Usage(format!("--url {error}")))?);
        }
        if config.server.public_url.is_none() {
            return Err(Usage(
                "server.public_url is not set; set it to the https URL under which the world reaches the receiver, such \
                 as \"https://status.example.com\", or pass --url"
                    .into(),
            )
            .into());
        }
        CallbackUrl::parse_with_secret_last(&config.server.callback_url(&first_secret(config)?)).map_err(|error| {
            let advice = "put a proxy that speaks TLS before the receiver, and set server.public_url to its https URL";
            Usage(format!("server.public_url {error}; {advice}")).into()
        })
    }

    fn token(&self, config: &Config) -> Result<Secret, Usage> {
        let token = match &self.token_file {
            Some(file) => Secret::read_one(file).map(Some).map_err(|error| format!("--token-file: {error}")),
            None => config.plugchat.load_token(),
        };
        token.map_err(Usage)?.ok_or_else(|| {
            Usage(
                "there is no token; set plugchat.token_file to a file with the Authorization Token of Plugchat's \
                 administration panel, or pass --token-file"
                    .into(),
            )
        })
    }
}
