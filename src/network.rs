//! Requests that carry a secret: where to, how they are sent, and why one got no answer, in words for people.

use std::error::Error as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::redirect::Policy;
use url::Url;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client for requests to `url` that carry a secret, which goes there and nowhere else: redirects are not followed, and a
/// proxy of the environment is used only where TLS hides the request from it.
pub(crate) fn client(url: &Url) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder().redirect(Policy::none()).connect_timeout(CONNECT_TIMEOUT);
    match url.scheme() {
        "https" => builder,
        // No certificates are loaded for what never speaks TLS: a host may have none.
        _ => builder.no_proxy().tls_certs_only([]),
    }
}

/// Where a listener can be reached from its own host.
pub(crate) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// The host is there, and nothing listens on the port.
    #[error("the connection was refused: nothing listens there")]
    Refused,
    /// The network does not get there.
    #[error("there is no way to it through the network")]
    Unreachable,
    /// The name has no address.
    #[error("its name cannot be resolved: is it spelled right, and does this host have DNS?")]
    Name,
    /// Somebody is there, but not somebody to be trusted.
    #[error("no TLS connection comes about: {0}")]
    Tls(String),
    /// There is no connection for another reason.
    #[error("no connection comes about: {0}")]
    Connection(String),
    /// Nobody took the connection.
    #[error("no connection came about in time")]
    ConnectTimeout,
    /// Nobody answered on it. The request may have been carried out.
    #[error("no answer came in time")]
    Timeout,
    /// Likewise.
    #[error("the connection closed before an answer came")]
    Closed,
    /// Something else than an HTTP server.
    #[error("what came back is not HTTP")]
    NotHttp,
    /// Whatever is none of these.
    #[error("{0}")]
    Other(String),
}

impl NoAnswer {
    /// Whether the request has certainly not got there.
    pub(crate) fn is_before_sending(&self) -> bool {
        match self {
            Self::Timeout | Self::Closed | Self::NotHttp | Self::Other(_) => false,
            Self::Refused
            | Self::Unreachable
            | Self::Name
            | Self::Tls(_)
            | Self::Connection(_)
            | Self::ConnectTimeout => true,
        }
    }
}

impl From<&reqwest::Error> for NoAnswer {
    fn from(error: &reqwest::Error) -> Self {
        match (error.is_timeout(), error.is_connect()) {
            (true, true) => return Self::ConnectTimeout,
            (true, false) => return Self::Timeout,
            _ if error.is_dns() => return Self::Name,
            _ => {}
        }
        // The outermost error would say the URL.
        let mut innermost = String::from("the request could not be made");
        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(known) = known(cause) {
                return known;
            }
            innermost = cause.to_string();
            source = cause.source();
        }
        if error.is_connect() { Self::Connection(innermost) } else { Self::Other(innermost) }
    }
}

impl From<&io::Error> for NoAnswer {
    /// Why a connection did not come about.
    fn from(error: &io::Error) -> Self {
        known(error).unwrap_or_else(|| Self::Connection(error.to_string()))
    }
}

fn known(cause: &(dyn std::error::Error + 'static)) -> Option<NoAnswer> {
    if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        return match () {
            () if error.is_incomplete_message() => Some(NoAnswer::Closed),
            () if error.is_parse() => Some(NoAnswer::NotHttp),
            () => None,
        };
    }
    let error = cause.downcast_ref::<io::Error>()?;
    // What an I/O error wraps is not in the chain of sources, and may be another one.
    let inner = error.get_ref();
    if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return Some(NoAnswer::Tls(distrust(tls)));
    }
    if let Some(known) = inner.and_then(|inner| known(inner)) {
        return Some(known);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(NoAnswer::Refused),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => {
            Some(NoAnswer::Unreachable)
        }
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some(NoAnswer::Closed),
        _ => None,
    }
}

fn distrust(error: &rustls::Error) -> String {
    use rustls::{CertificateError, Error};
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is from an authority that this host does not know".into()
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired, or this host's clock is wrong".into()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name".into(),
        Error::InvalidMessage(_) => "what listens there does not speak TLS".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_not_trusted_is_named_as_the_reason() {
        for (error, reason) in [
            (rustls::CertificateError::UnknownIssuer, "authority"),
            (rustls::CertificateError::Expired, "expired"),
            (rustls::CertificateError::NotValidForName, "another name"),
        ] {
            let error = io::Error::other(io::Error::other(rustls::Error::InvalidCertificate(error)));
            let said = known(&error).unwrap().to_string();
            assert!(said.contains("TLS") && said.contains(reason), "{said}");
        }
    }
}
