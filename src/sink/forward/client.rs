//! The HTTP client of one destination.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use reqwest::dns::Resolve;
use reqwest::header::HeaderMap;
use reqwest::{Client, redirect};

use super::address::Guarded;
use super::config::{Config, Target};
use crate::sink::tls;

/// Below what servers and proxies usually keep an idle connection for (nginx: 75 s), so that they are not the ones to close it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// After that much silence on HTTP/2, and for that long, it is asked whether the connection lives. All requests share it.
const PING_EVERY: Duration = Duration::from_secs(10);

/// A client that connects to nothing yet.
///
/// HTTP/2 where the destination offers it in the TLS handshake, else HTTP/1.1; connections are kept; no redirects, and no proxy
/// that the environment names.
pub(super) fn build(
    config: &Config,
    target: &Target,
    headers: HeaderMap,
    resolver: impl Resolve + 'static,
) -> anyhow::Result<Client> {
    let files = tls::Files { ca: config.ca_file.as_deref(), ..tls::Files::default() };
    let mut tls =
        files.client_config(target.url().scheme() == "https").map_err(|error| anyhow!("forward.{error:#}"))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(Guarded(resolver))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .user_agent(concat!("plugchat-receiver/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .timeout(config.timeout)
        .connect_timeout(config.connect_within())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http2_keep_alive_interval(PING_EVERY)
        .http2_keep_alive_timeout(PING_EVERY)
        .build()
        .context("cannot make an HTTP client")
}
