//! The HTTP client of one destination.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::dns::Resolve;
use reqwest::header::HeaderMap;
use reqwest::{Client, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::address::Guarded;
use super::config::{Config, Target};

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
    let tls = tls(target, config.ca_file.as_deref())?;
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

/// The system's certificate authorities, and the configured ones. They are looked for only where they are needed: a receiver
/// without any can still post to its neighbour.
///
/// This is not left to the client, which writes a line to the log by itself each time that a certificate is refused, and depends
/// on a process-wide choice of the cryptography.
fn tls(target: &Target, ca_file: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        add_file(&mut roots, path).with_context(|| format!("forward.ca_file: cannot use {}", path.display()))?;
    }
    if target.url().scheme() == "https" {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        ensure!(
            !roots.is_empty(),
            "the system has no certificate authorities; install them (ca-certificates) or set forward.ca_file"
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> anyhow::Result<()> {
    for certificate in CertificateDer::pem_file_iter(path)? {
        roots.add(certificate?)?;
    }
    ensure!(!roots.is_empty(), "it has no certificate in PEM form");
    Ok(())
}
