//! The commands' client of the admin API.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::Usage;
use crate::config::Config;
use crate::network::{self, NoAnswer};
use crate::secret::{Hidden, Secret};
use crate::sink::Name;
use crate::visible::visible;

/// A shorter token is a part of many words: it is hidden in what an error says, and not in data.
const SHORTEST_IN_DATA: usize = 8;

/// What an answer is that has not the form of this receiver's.
pub(super) const UNEXPECTED: &str = "the receiver's answer is not what this version expects; are both of one version?";

/// How long an answer may take, unless its command says otherwise.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Speaks to the receiver of this configuration.
pub(super) struct Client {
    base: Url,
    token: Option<Secret>,
    hidden: Hidden,
    http: reqwest::Client,
    timeout: Duration,
}

impl Client {
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let token = config.admin.load_token().map_err(Usage)?;
        let base = Url::parse(&format!("http://{}", network::reachable(config.admin.listen)))?;
        let http = network::client(&base).build()?;
        let hidden = Hidden::new(token.iter().map(Secret::expose));
        Ok(Self { base, token, hidden, http, timeout: ANSWER_WITHIN })
    }

    /// Waits this long for an answer, rather than as long as usual.
    pub(super) fn waiting(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The answer's status and body, whatever they are. What listens there may be another program, which repeats what it was
    /// sent: the token is taken out.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<(StatusCode, String)> {
        let request = self.request(method, path, query)?.timeout(self.timeout);
        let response = request.send().await.map_err(|error| self.no_answer(&error))?;
        let status = response.status();
        let body = response.text().await.map_err(|error| self.no_answer(&error))?;
        Ok((status, self.without_token(body)))
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, String)]) -> anyhow::Result<RequestBuilder> {
        let mut url = self.base.join(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        })
    }

    /// What was answered, without the token.
    pub(super) fn without_token(&self, text: String) -> String {
        let is_telling = self.token.as_ref().is_some_and(|token| token.expose().len() >= SHORTEST_IN_DATA);
        if is_telling { self.hidden.redact(&text) } else { text }
    }

    /// A stream of events, which goes on after the one with this id.
    pub(super) async fn follow(
        &self,
        path: &str,
        query: &[(&str, String)],
        last_id: Option<&str>,
    ) -> Result<Response, NotFollowed> {
        let mut request = self.request(Method::GET, path, query)?.header(ACCEPT, EVENT_STREAM);
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.map_err(|error| NotFollowed::ForNow(self.no_answer(&error)))?;
        let status = response.status();
        let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if status.is_success() {
            let is_stream = media_type.is_some_and(|media_type| media_type.starts_with(EVENT_STREAM));
            return if is_stream { Ok(response) } else { Err(anyhow!(UNEXPECTED).into()) };
        }
        let body = response.text().await.map_err(|error| NotFollowed::ForNow(self.no_answer(&error)))?;
        let why = self.explain(status, &body);
        Err(match status {
            StatusCode::UNAUTHORIZED => NotFollowed::ForGood(Usage(why).into()),
            StatusCode::SERVICE_UNAVAILABLE => NotFollowed::ForNow(anyhow!(why)),
            _ => NotFollowed::ForGood(anyhow!(why)),
        })
    }

    fn no_answer(&self, error: &reqwest::Error) -> anyhow::Error {
        let (why, origin) = (NoAnswer::from(error), self.base.origin().ascii_serialization());
        anyhow!("no receiver answers at {origin} (admin.listen): {why}; is it running, with this configuration?")
    }

    /// What an answer that is no success says, on one line.
    pub(super) fn explain(&self, status: StatusCode, body: &str) -> String {
        self.hidden.redact(&explain(status, body))
    }

    /// A successful answer's body.
    pub(super) async fn fetch<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<T> {
        let (status, body) = self.ask(method, path, query).await?;
        if status == StatusCode::UNAUTHORIZED {
            return Err(Usage(self.explain(status, &body)).into());
        }
        if !status.is_success() {
            bail!("{}", self.explain(status, &body));
        }
        understand(&body)
    }

    /// A successful answer that is an object with all of these keys.
    pub(super) async fn fetch_object(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        keys: &[&str],
    ) -> anyhow::Result<Value> {
        let object: Value = self.fetch(method, path, query).await?;
        anyhow::ensure!(has_all(&object, keys), UNEXPECTED);
        Ok(object)
    }

    /// A successful answer that is a list of objects with all of these keys.
    pub(super) async fn fetch_list(
        &self,
        path: &str,
        query: &[(&str, String)],
        keys: &[&str],
    ) -> anyhow::Result<Vec<Value>> {
        let list: Vec<Value> = self.fetch(Method::GET, path, query).await?;
        anyhow::ensure!(list.iter().all(|object| has_all(object, keys)), UNEXPECTED);
        Ok(list)
    }
}

/// The media type of server-sent events.
const EVENT_STREAM: &str = "text/event-stream";

/// Why there is no stream of events.
#[derive(Debug)]
pub(super) enum NotFollowed {
    /// It may be there in a moment.
    ForNow(anyhow::Error),
    /// It will not be there.
    ForGood(anyhow::Error),
}

impl From<anyhow::Error> for NotFollowed {
    fn from(error: anyhow::Error) -> Self {
        Self::ForGood(error)
    }
}

fn has_all(object: &Value, keys: &[&str]) -> bool {
    keys.iter().all(|key| object.get(key).is_some())
}

/// Reads an answer, or a part of one.
pub(super) fn understand<T: DeserializeOwned>(json: &str) -> anyhow::Result<T> {
    // The parser's own words are about Rust's types, and may quote the text.
    serde_json::from_str(json).ok().context(UNEXPECTED)
}

/// The path of something of a sink.
pub(super) fn of_sink(name: &Name, what: &str) -> String {
    // A name has nothing in it that a path would have to escape.
    format!("/api/v1/sinks/{name}/{what}")
}

/// What a problem answer says, on one line.
pub(super) fn explain(status: StatusCode, body: &str) -> String {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let Some(detail) = problem["detail"].as_str() else {
        return format!("answered {}, without saying why", status.as_u16());
    };
    let errors: Vec<String> = problem["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|error| {
            format!(
                "{} {}",
                error["pointer"].as_str().unwrap_or_default(),
                error["detail"].as_str().unwrap_or_default()
            )
        })
        .collect();
    let errors = if errors.is_empty() { String::new() } else { format!(": {}", errors.join("; ")) };
    visible(&format!("{detail}{errors} ({})", status.as_u16()))
}
