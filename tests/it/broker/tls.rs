//! A certificate authority of the tests' own, and what it signs.

use std::path::PathBuf;

use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use super::process;

/// An authority.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// One with this name and a key of its own.
    pub(crate) fn new(name: &str) -> Self {
        let mut parameters = parameters(name, &[]);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(parameters, key()).expect("the parameters are complete");
        Self { issuer }
    }

    /// Its certificate.
    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", self.issuer.der())
    }

    /// A certificate for these hosts, good for servers and clients, and its key.
    pub(crate) fn sign(&self, name: &str, hosts: &[&str]) -> (CertificateDer<'static>, KeyPair) {
        let mut parameters = parameters(name, hosts);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = key();
        let certificate = parameters.signed_by(&key, &self.issuer).expect("the parameters are complete");
        (certificate.der().clone(), key)
    }
}

/// A folder with an authority's certificate, and two others that it has signed, for a server on this host and for a client.
pub(crate) struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// All of them, anew.
    pub(crate) fn new() -> Self {
        let folder = process::folder();
        let write = |file: &str, text: String| {
            std::fs::write(folder.path().join(file), text).expect("the folder is there");
        };
        let authority = Authority::new("authority");
        write("ca.pem", authority.pem());
        for (name, hosts) in [("server", ["localhost", "127.0.0.1"].as_slice()), ("client", &[])] {
            let (certificate, key) = authority.sign(name, hosts);
            write(&format!("{name}.pem"), pem("CERTIFICATE", &certificate));
            write(&format!("{name}.key"), pem("PRIVATE KEY", key.serialized_der()));
        }
        Self { folder }
    }

    /// The path of `ca.pem`, `server.pem`, `server.key`, `client.pem` or `client.key`.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The paths of what a server's configuration names: the authority, the certificate and its key.
    pub(super) fn server(&self) -> [String; 3] {
        ["ca.pem", "server.pem", "server.key"].map(|file| self.path(file).display().to_string())
    }
}

fn parameters(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut parameters = CertificateParams::new(hosts).expect("these are host names");
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

fn key() -> KeyPair {
    KeyPair::generate().expect("keys of the default kind can be made")
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    // Longer lines are too long for OpenSSL.
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
