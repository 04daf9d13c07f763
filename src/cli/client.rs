//! The commands' client of the admin API.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Usage;
use crate::config::Config;
use crate::secret::Secret;
use crate::sink::Name;

/// Speaks to the receiver of this configuration.
pub(super) struct Client {
    base: String,
    token: Option<Secret>,
    http: reqwest::Client,
}

impl Client {
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        // It speaks no TLS, and must work where no certificates are installed.
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_only([])
            .build()?;
        let token = config.admin.load_token().map_err(Usage)?;
        Ok(Self { base: format!("http://{}", reachable(config.admin.listen)), token, http })
    }

    /// The answer's status and body, whatever they are.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<(StatusCode, String)> {
        let mut url = url::Url::parse(&self.base)?.join(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let response = request.send().await.map_err(reqwest::Error::without_url).with_context(|| {
            format!("no receiver answers at {} (admin.listen); is it running, with this configuration?", self.base)
        })?;
        let status = response.status();
        Ok((status, response.text().await.map_err(reqwest::Error::without_url)?))
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
            return Err(Usage(explain(status, &body)).into());
        }
        if !status.is_success() {
            bail!("{}", explain(status, &body));
        }
        serde_json::from_str(&body)
            .context("the receiver's answer is not what this version expects; are both of one version?")
    }
}

/// The path of something of a sink.
pub(super) fn of_sink(name: &Name, what: &str) -> String {
    // A name has nothing in it that a path would have to escape.
    format!("/api/v1/sinks/{name}/{what}")
}

/// What a problem answer says, on one line.
pub(super) fn explain(status: StatusCode, body: &str) -> String {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or("no explanation");
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
    format!("{detail}{errors} ({})", status.as_u16())
}

/// Where a listener can be reached from this host.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
