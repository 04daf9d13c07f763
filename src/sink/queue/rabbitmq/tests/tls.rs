//! Over TLS, with a certificate authority of the tests' own.

use super::place::sink;
use crate::sink::broker::rabbitmq;
use crate::sink::broker::tls::{Authority, Certificates};
use crate::sink::conformance::{Give as _, delivery};
use crate::sink::queue::Broker as _;

#[tokio::test]
async fn both_sides_show_their_certificates_and_a_stranger_is_not_spoken_to() {
    let certificates = Certificates::new();
    let broker = rabbitmq::start_with(&rabbitmq::tls(&certificates, true));
    let port = broker.address().port();
    let path = |file: &str| certificates.path(file).display().to_string();
    let lines = |scheme: &str, host: &str, more: &str| {
        format!(
            "url = \"{scheme}://guest:guest@{host}:{port}/%2f\"\nexchange = \"e\"\nrouting_key = \"k\"\n\
             declare = {{ queue = \"q\" }}\n{more}"
        )
    };
    let ca = format!("ca_file = {:?}\n", path("ca.pem"));
    let client = format!("cert_file = {:?}\nkey_file = {:?}\n", path("client.pem"), path("client.key"));
    for host in ["localhost", "127.0.0.1"] {
        let sink = sink(&lines("amqps", host, &format!("{ca}{client}")));
        sink.give(&[delivery("a")]).await.unwrap();
        assert!(sink.reach().await.is_ok() && sink.describe().contains("over TLS"));
    }
    let other = certificates.path("other.pem");
    std::fs::write(&other, Authority::new("another").pem()).unwrap();
    let other = format!("ca_file = {:?}\n", other.display().to_string());
    for (lines, part) in [
        (lines("amqps", "localhost", &format!("{other}{client}")), "from an authority that this host does not know"),
        (lines("amqps", "localhost", &ca), "set cert_file and key_file"),
        // The alert of the other side arrives, or the end of the connection before it.
        (lines("amqp", "localhost", ""), "amqps://"),
    ] {
        let failure = sink(&lines).give(&[delivery("b")]).await.unwrap_err();
        assert!(failure.cause.contains(part), "{lines}: {}", failure.cause);
    }
    let queue = "{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"q\">>))";
    let stat = rabbitmq::ctl(&broker, &["eval", &format!("{queue}, rabbit_amqqueue:stat(Q).")]);
    assert_eq!(stat.trim(), "{ok,2,0}", "two messages, no consumers");
}
