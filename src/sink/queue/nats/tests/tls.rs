//! Over TLS, with a certificate authority of the tests' own.

use super::sink;
use crate::sink::FailureKind;
use crate::sink::broker::nats;
use crate::sink::broker::tls::{Authority, Certificates};
use crate::sink::conformance::{Give as _, delivery, first_failure};

/// Its acknowledgement is enough to know that the change is there.
const MAKES: &str = "create_stream = { name = \"WHATSAPP\" }";

fn file(certificates: &Certificates, key: &str, file: &str) -> String {
    format!("{key} = \"{}\"\n", certificates.path(file).display())
}

#[tokio::test]
async fn tls_is_spoken_where_the_url_says_so_and_where_the_server_wants_it() {
    let certificates = Certificates::new();
    let server = nats::start_with(&nats::tls(&certificates, false));
    let ca = file(&certificates, "ca_file", "ca.pem");
    for url in ["tls://localhost", "tls://127.0.0.1", "nats://localhost"] {
        let rest = format!("url = \"{url}:{}\"\n{ca}{MAKES}", server.address().port());
        sink(server.address(), &rest).give(&[delivery(url)]).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_trusted_is_given_nothing() {
    let certificates = Certificates::new();
    let server = nats::start_with(&nats::tls(&certificates, false));
    let stranger = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(stranger.path(), Authority::new("another").pem()).unwrap();
    let stranger = format!("ca_file = \"{}\"\n", stranger.path().display());
    let plain = nats::start();
    for (port, scheme, ca, part) in [
        (server.address().port(), "tls", stranger.as_str(), "from an authority that this host does not know"),
        (server.address().port(), "nats", "", "from an authority that this host does not know"),
        (plain.address().port(), "tls", stranger.as_str(), "does not speak TLS"),
    ] {
        let rest = format!("url = \"{scheme}://localhost:{port}\"\n{ca}timeout = \"5s\"\n{MAKES}");
        let failure = first_failure(&sink(server.address(), &rest), &[delivery("m")]).await;
        assert_eq!(failure.kind, FailureKind::Away { after: None });
        assert!(failure.cause.contains(part), "{}", failure.cause);
    }
}

#[tokio::test]
async fn a_server_may_want_a_certificate_of_the_receiver() {
    let certificates = Certificates::new();
    let server = nats::start_with(&nats::tls(&certificates, true));
    let without = format!(
        "url = \"tls://localhost:{}\"\n{}{MAKES}\n",
        server.address().port(),
        file(&certificates, "ca_file", "ca.pem")
    );
    let failure = first_failure(&sink(server.address(), &without), &[delivery("m")]).await;
    assert_eq!(failure.kind, FailureKind::Away { after: None });
    let own = file(&certificates, "cert_file", "client.pem") + &file(&certificates, "key_file", "client.key");
    sink(server.address(), &format!("{without}{own}")).give(&[delivery("m")]).await.unwrap();
}
