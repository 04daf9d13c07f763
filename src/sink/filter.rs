//! Which changes a sink is given.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::status::{Chat, Status, StatusChange, Transition};

/// Conditions that must all hold; an empty one always does.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Any of these statuses, in any of their spellings.
    #[serde(deserialize_with = "statuses")]
    #[schemars(with = "Vec<String>")]
    pub status: Vec<Status>,
    /// Any of these transitions.
    pub transition: Vec<Transition>,
    /// Any of these kinds of chat.
    pub chat: Vec<Chat>,
    /// Any of these connected accounts.
    pub instance: Vec<String>,
}

fn statuses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Status>, D::Error> {
    Ok(Vec::<String>::deserialize(deserializer)?.into_iter().map(Status::new).collect())
}

impl Filter {
    /// Whether the sink wants this change.
    pub fn matches(&self, change: &StatusChange) -> bool {
        let facts = &change.facts;
        let status = || facts.status.canonical();
        (self.status.is_empty() || self.status.iter().any(|wanted| wanted.canonical() == status()))
            && (self.transition.is_empty() || self.transition.contains(&change.transition))
            && (self.chat.is_empty() || self.chat.contains(&change.chat()))
            && (self.instance.is_empty() || facts.instance_id.as_ref().is_some_and(|id| self.instance.contains(id)))
    }
}
