//! The forward sink: an HTTP request for each change.

mod address;
mod answer;
mod client;
mod config;
mod signing;

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::dns::Resolve;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Response};

use super::body::Body;
use super::excerpt::excerpt;
use super::{Delivery, Failure, FailureKind, Sink, cloudevents};
use crate::network::NoAnswer;
use crate::secret::Hidden;
use crate::status::StatusChange;

pub use config::{Config, Headers, Target};
pub use signing::SigningKey;

/// How much of an answer's body is read: enough to use the connection again after any sensible answer.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Posts each change to one URL.
pub struct ForwardSink {
    client: Client,
    target: Target,
    body: Body,
    keys: Vec<SigningKey>,
    cloudevents: bool,
    timeout: Duration,
    hidden: Hidden,
}

impl ForwardSink {
    /// Reads the files that the configuration names, and connects to nothing.
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        Self::with_resolver(config, address::System)
    }

    fn with_resolver(config: &Config, resolver: impl Resolve + 'static) -> anyhow::Result<Self> {
        let target = config.load_target().map_err(anyhow::Error::msg)?;
        let keys = config.load_keys().map_err(anyhow::Error::msg)?;
        let headers = config.load_headers(&target).map_err(anyhow::Error::msg)?;
        let hidden = answer::hidden(&target, &headers, &keys);
        Ok(Self {
            client: client::build(config, &target, headers, resolver)?,
            target,
            body: config.body,
            keys,
            cloudevents: config.cloudevents,
            timeout: config.timeout,
            hidden,
        })
    }

    /// Where it posts to and what, for people.
    pub(super) fn describe(&self) -> String {
        let body = self.body.plural();
        let signed = match self.keys.len() {
            0 => "not signed".to_owned(),
            1 => "signed".to_owned(),
            keys => format!("signed with {keys} keys"),
        };
        let cloudevents = if self.cloudevents { ", with CloudEvents headers" } else { "" };
        let (scheme, place) = (self.target.url().scheme(), self.target.place());
        let timeout = humantime::format_duration(self.timeout);
        format!("{body} to {scheme}://{place}, {signed}{cloudevents}, within {timeout}")
    }

    /// Asks for the headers of the destination, which changes nothing there. That it answers is enough, whatever it says: most
    /// know nothing but POST.
    pub(super) async fn reach(&self) -> Result<String, String> {
        let asked = self.client.head(self.target.url().clone()).send().await;
        let response = asked.map_err(|error| self.unanswered(&error).cause)?;
        Ok(format!("{} answers: {} to a HEAD request", self.target.place(), response.status().as_u16()))
    }

    async fn post(&self, change: &StatusChange) -> Result<(), Failure> {
        let id = change.facts.event_id();
        let body = self.body.of(change)?;
        // The attempt's time and not the event's: a consumer refuses what is older than a few minutes.
        let at_s = Timestamp::now().as_second();
        let mut request = self
            .client
            .post(self.target.url().clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", at_s);
        if !self.keys.is_empty() {
            let signatures: Vec<_> = self.keys.iter().map(|key| key.sign(&id, at_s, &body)).collect();
            request = request.header("webhook-signature", signatures.join(" "));
        }
        if self.cloudevents {
            for (name, value) in cloudevents::headers(change, &id) {
                request = request.header(name, value);
            }
        }
        let mut response = request.body(body).send().await.map_err(|error| self.unanswered(&error))?;
        let status = response.status();
        // Also of an answer that is not looked at, so that the connection can be used again.
        let body = read_bounded(&mut response).await;
        if status.is_success() {
            return Ok(());
        }
        let after = answer::retry_after(response.headers(), SystemTime::now());
        let excerpt = excerpt(&body, &self.hidden);
        let excerpt = if excerpt.is_empty() { String::new() } else { format!(": {excerpt}") };
        let cause = format!("answered {}{}{excerpt}", status.as_u16(), answer::remark(status));
        Err(Failure { kind: answer::kind(status, after), cause })
    }

    /// What it means that there was no answer. Once a connection stands the request may have arrived, and its change be the cause.
    fn unanswered(&self, error: &reqwest::Error) -> Failure {
        let is_away = error.is_connect() || error.is_builder();
        let kind = if is_away { FailureKind::Away { after: None } } else { FailureKind::TryAgain { after: None } };
        let place = self.target.place();
        let cause = match (address::refusal(error), NoAnswer::from(error)) {
            (Some(refused), _) => format!("no connection to {place}: {refused}"),
            (None, NoAnswer::Timeout) => {
                format!("no answer from {place} within {}", humantime::format_duration(self.timeout))
            }
            (None, why) => format!("no answer from {place}: {why}"),
        };
        Failure { kind, cause }
    }
}

#[async_trait]
impl Sink for ForwardSink {
    /// One request after another. May be called again while a call is under way.
    async fn deliver(&self, changes: &[Delivery]) -> Vec<Result<(), Failure>> {
        let mut outcomes = Vec::with_capacity(changes.len());
        for delivery in changes {
            outcomes.push(self.post(&delivery.change).await);
            let kind = outcomes.last().and_then(|outcome| outcome.as_ref().err()).map(|failure| failure.kind);
            if matches!(kind, Some(FailureKind::Away { .. } | FailureKind::Gone)) {
                break;
            }
        }
        outcomes
    }
}

/// What there is of the body, up to the bound. The status has come already, so it counts whatever becomes of the rest.
async fn read_bounded(response: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MAX_ANSWER_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    body
}

#[cfg(test)]
mod tests;
