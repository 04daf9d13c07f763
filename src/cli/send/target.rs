//! Where callbacks are posted to, and what was answered.

use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN, SERVER, USER_AGENT};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::callback::FieldError;
use crate::cli::Usage;
use crate::cli::client::explain;
use crate::cli::url::first_secret;
use crate::config::Config;
use crate::network::{self, NoAnswer};
use crate::secret::Hidden;
use crate::visible::visible;

/// More of an answer is not read.
const MAX_ANSWER: usize = 64 << 10;

/// More of what it says is not shown.
const MAX_SHOWN: usize = 500;

/// The sender, as callbacks were captured; the browser is another one each time.
const HEADERS: [(reqwest::header::HeaderName, &str); 4] = [
    (CONTENT_TYPE, "application/json"),
    (ORIGIN, "https://api.z-api.io"),
    (SERVER, "Z-API"),
    (
        USER_AGENT,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    ),
];

/// A receiver, by its callback URL.
pub(super) struct Target {
    http: reqwest::Client,
    url: Url,
    is_configured: bool,
    hidden: Hidden,
}

impl Target {
    /// The receiver at `url`, or the configuration's on this host.
    pub(super) fn new(config: &Config, url: Option<&str>, timeout: Duration) -> anyhow::Result<Self> {
        let (url, secret) = match url {
            Some(url) => (parse(url).map_err(|error| Usage(format!("--url {error}")))?, None),
            None => {
                let secret = first_secret(config)?;
                let mut server = config.server.clone();
                server.public_url = None;
                let url = Url::parse(&server.callback_url(&secret)).expect("an address and a checked path make a URL");
                (url, Some(secret))
            }
        };
        let headers = HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value)));
        let http = network::client(&url)
            .default_headers(HeaderMap::from_iter(headers))
            // One connection carries one callback at a time, as the sender's do.
            .http1_only()
            .timeout(timeout)
            .build()
            .context("TLS cannot be set up; are this host's CA certificates installed?")?;
        let hidden = Hidden::with_url(&url, secret.iter().map(|secret| secret.expose()));
        Ok(Self { http, url, is_configured: secret.is_some(), hidden })
    }

    /// Posts a body and reads the answer.
    pub(super) async fn post(&self, body: Vec<u8>) -> Result<Outcome, NoAnswer> {
        let request = self.http.post(self.url.clone()).body(body);
        let mut response = request.send().await.map_err(|error| NoAnswer::from(&error))?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| NoAnswer::from(&error))? {
            answer.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER - answer.len())]);
            if answer.len() == MAX_ANSWER {
                break;
            }
        }
        Ok(Outcome::new(status, &String::from_utf8_lossy(&answer), &self.hidden))
    }

    /// The error that there was no answer.
    pub(super) fn no_answer(&self, why: &NoAnswer) -> anyhow::Error {
        let origin = self.url.origin().ascii_serialization();
        if !self.is_configured {
            return anyhow::anyhow!("no receiver answers at {origin}: {why}");
        }
        anyhow::anyhow!(
            "no receiver answers at {origin} (server.listen): {why}. Is it running, with this configuration?"
        )
    }
}

/// The text is not repeated in the error: it has a secret in it.
fn parse(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|error| format!("is not a URL ({error})"))?;
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err("is not an http or https URL".into()) }
}

/// What became of one callback.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// `None`: there was no answer.
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicates: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// All of it on one line.
    #[serde(skip)]
    line: String,
}

/// A receiver's answer, whichever it is.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    stored: Option<u64>,
    duplicates: Option<u64>,
    detail: Option<String>,
    errors: Vec<FieldError>,
}

impl Outcome {
    fn new(status: StatusCode, body: &str, hidden: &Hidden) -> Self {
        let Answer { stored, duplicates, detail, errors } = serde_json::from_str(body).unwrap_or_default();
        let show = |text: &str| hidden.redact(&text.chars().take(MAX_SHOWN).collect::<String>());
        let code = status.as_u16();
        let line = match (code, stored, duplicates) {
            (200, Some(stored), Some(duplicates)) => format!("stored {stored}, duplicates {duplicates} (200)"),
            (200, ..) => "answered, but not as this receiver answers (200)".into(),
            (300..=399, ..) => format!("a redirect, which no sender is known to follow ({code})"),
            _ => visible(&show(&explain(status, body))),
        };
        let errors = errors
            .into_iter()
            .map(|FieldError { pointer, detail }| FieldError { pointer: show(&pointer), detail: show(&detail) })
            .collect();
        Self { status: Some(code), stored, duplicates, detail: detail.as_deref().map(show), errors, line }
    }

    /// There was no answer.
    pub(super) fn unanswered(why: &NoAnswer) -> Self {
        let detail = format!("no answer: {why}");
        Self {
            status: None,
            stored: None,
            duplicates: None,
            line: detail.clone(),
            detail: Some(detail),
            errors: Vec::new(),
        }
    }

    /// The answer's status.
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether it was taken: answered 200, as this receiver answers.
    pub(super) fn is_taken(&self) -> bool {
        self.status == Some(200) && self.stored.is_some() && self.duplicates.is_some()
    }

    /// Status changes that were stored.
    pub(super) fn stored(&self) -> u64 {
        self.stored.unwrap_or(0)
    }

    /// Status changes that had been stored before.
    pub(super) fn duplicates(&self) -> u64 {
        self.duplicates.unwrap_or(0)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}
