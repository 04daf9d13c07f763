//! Over TLS, with a certificate authority of the tests' own.

use super::destination::sink_to;
use crate::sink::FailureKind;
use crate::sink::broker::tls::{Authority, Certificates};
use crate::sink::broker::{Server, redis as broker};
use crate::sink::conformance::{Give as _, delivery, first_failure};
use crate::sink::queue::Broker as _;

const AWAY: FailureKind = FailureKind::Away { after: None };

fn url(server: &Server, host: &str) -> String {
    format!("rediss://{host}:{}", server.address().port())
}

#[tokio::test]
async fn a_server_that_an_authority_of_ones_own_has_signed_is_trusted_by_name_and_by_address() {
    let certificates = Certificates::new();
    let server = broker::start_with(&broker::tls(&certificates, false));
    let ca_file = format!("ca_file = \"{}\"", certificates.path("ca.pem").display());
    for host in ["localhost", "127.0.0.1"] {
        let sink = sink_to(&url(&server, host), &ca_file);
        let changes: Vec<_> = (0..300).map(|number| delivery(&number.to_string())).collect();
        sink.give(&changes).await.unwrap();
        assert!(sink.reach().await.is_ok());
    }
}

#[tokio::test]
async fn a_server_with_another_certificate_is_away_and_gets_nothing() {
    let certificates = Certificates::new();
    let server = broker::start_with(&broker::tls(&certificates, false));
    let others = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(others.path(), Authority::new("another").pem()).unwrap();
    let others = format!("ca_file = \"{}\"", others.path().display());
    let own = format!("ca_file = \"{}\"", certificates.path("ca.pem").display());
    let authority = "its certificate is from an authority that this host does not know";
    for (url, ca_file, said) in [
        (url(&server, "localhost"), &others, authority),
        (url(&server, "127.0.0.2"), &own, "the connection was refused"),
        (url(&server, "localhost").replace("rediss", "redis"), &String::new(), ""),
    ] {
        let failure = first_failure(&sink_to(&url, ca_file), &[delivery("m")]).await;
        assert_eq!(failure.kind, AWAY);
        assert!(failure.cause.contains(said), "{}", failure.cause);
    }
    // It waits for the end of what it takes for a command.
    let plain = broker::start();
    let sink = sink_to(&url(&plain, "localhost"), &format!("{own}\ntimeout = \"100ms\""));
    assert_eq!(first_failure(&sink, &[delivery("m")]).await.kind, AWAY);
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_the_configured_one() {
    let certificates = Certificates::new();
    let server = broker::start_with(&broker::tls(&certificates, true));
    let file = |key: &str, file: &str| format!("{key} = \"{}\"\n", certificates.path(file).display());
    let (ca, cert, key) = (file("ca_file", "ca.pem"), file("cert_file", "client.pem"), file("key_file", "client.key"));
    sink_to(&url(&server, "localhost"), &format!("{ca}{cert}{key}")).give(&[delivery("m")]).await.unwrap();
    let failure = first_failure(&sink_to(&url(&server, "localhost"), &ca), &[delivery("m")]).await;
    assert_eq!(failure.kind, AWAY);
    assert!(failure.cause.ends_with("received fatal alert: CertificateRequired"), "{}", failure.cause);
}
