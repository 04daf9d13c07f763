//! What of a change a destination is given.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Failure;
use crate::status::StatusChange;

/// What the body of a request or message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// The status change as an event.
    #[default]
    Event,
    /// The callback as it came, its ids cut to the one message.
    Callback,
}

impl Body {
    /// The body of this change, a JSON text.
    ///
    /// # Errors
    /// When there is none: the change is refused.
    pub(super) fn of(self, change: &StatusChange) -> Result<String, Failure> {
        match self {
            Self::Event => serde_json::to_string(change)
                .map_err(|error| Failure::refused(format!("the event cannot be written: {error}"))),
            Self::Callback => Ok(change.callback.get().to_owned()),
        }
    }

    /// What the bodies are, for people.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Event => "events",
            Self::Callback => "callbacks",
        }
    }
}
