//! The client of Plugchat's `update-webhooks`.

use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use crate::secret::{self, Secret};

/// The account at Plugchat.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The Authorization Token of Plugchat's administration panel.
    pub token: Option<Secret>,
    /// The same from a file.
    pub token_file: Option<PathBuf>,
    /// Where webhooks are registered.
    #[serde(deserialize_with = "crate::config::units::url")]
    pub endpoint: Url,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            token: None,
            token_file: None,
            endpoint: Url::parse("https://app.plugchat.com.br/api/integrations/update-webhooks")
                .expect("a constant that is a URL"),
        }
    }
}

impl Config {
    /// Checks what the types alone don't say.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if self.token.is_some() && self.token_file.is_some() {
            return Err("plugchat.token and plugchat.token_file are both set; keep one of them".into());
        }
        Ok(())
    }

    /// The token, when one is configured.
    pub(crate) fn load_token(&self) -> Result<Option<Secret>, String> {
        secret::one_of("plugchat.token", self.token.as_ref(), self.token_file.as_ref())
    }
}
