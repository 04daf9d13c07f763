//! TLS towards destinations.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// The files in PEM form that a destination's configuration names.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Files<'a> {
    /// Certificate authorities that are trusted besides the system's.
    pub(super) ca: Option<&'a Path>,
    /// The certificate, and its chain, by which the receiver shows who it is.
    pub(super) cert: Option<&'a Path>,
    /// The certificate's key.
    pub(super) key: Option<&'a Path>,
}

impl Files<'_> {
    /// Checks what can be checked without reading them.
    pub(super) fn validate(&self) -> Result<(), String> {
        match (self.cert, self.key) {
            (Some(_), None) => Err("cert_file is set without key_file".into()),
            (None, Some(_)) => Err("key_file is set without cert_file".into()),
            _ => Ok(()),
        }
    }

    /// The client's side of TLS: the system's certificate authorities and the configured ones, and the client's own certificate if
    /// it has one. The system's are looked for only when TLS `is_used`: a receiver without any can still reach its neighbour.
    ///
    /// This is not left to the clients, which depend on a process-wide choice of the cryptography, and some of which write a line
    /// to the log by themselves each time that a certificate is refused.
    ///
    /// # Errors
    /// When a file can't be used, or when there is nobody to trust.
    pub(super) fn client_config(&self, is_used: bool) -> anyhow::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = self.ca {
            let add = |roots: &mut RootCertStore| {
                certificates(path)?
                    .into_iter()
                    .try_for_each(|certificate| Ok::<_, anyhow::Error>(roots.add(certificate)?))
            };
            add(&mut roots).with_context(|| format!("ca_file: cannot use {}", path.display()))?;
        }
        if is_used {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            ensure!(
                !roots.is_empty(),
                "the system has no certificate authorities; install them (ca-certificates) or set ca_file"
            );
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let (Some(cert), Some(key)) = (self.cert, self.key) else { return Ok(builder.with_no_client_auth()) };
        let chain = certificates(cert).with_context(|| format!("cert_file: cannot use {}", cert.display()))?;
        let private = PrivateKeyDer::from_pem_file(key);
        let private = private.with_context(|| format!("key_file: cannot use {}", key.display()))?;
        builder.with_client_auth_cert(chain, private).context("cert_file and key_file don't fit together")
    }
}

/// The certificates in a file, one at least.
fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>()?;
    ensure!(!certificates.is_empty(), "it has no certificate in PEM form");
    Ok(certificates)
}
