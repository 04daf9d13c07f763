//! Over TLS, with a certificate authority of the tests' own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::destination::{CANARIES, KEY, delivery, sink};
use crate::sink::FailureKind;
use crate::sink::broker::tls::Authority;
use crate::sink::conformance::Give as _;

/// A server of this host name that offers these protocols.
fn server(authority: &Authority, host: &str, protocols: &[&str]) -> TlsAcceptor {
    let (certificate, key) = authority.sign("server", &[host]);
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

type Seen = Arc<Mutex<Vec<(Version, String)>>>;

/// Answers 200 to everything, by the protocol that the handshake agreed on; what came by which version.
async fn serve(acceptor: TlsAcceptor) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let seeing = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Who doesn't trust it ends the handshake.
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let seeing = Arc::clone(&seeing);
            let service = service_fn(move |request: Request<Incoming>| {
                let seeing = Arc::clone(&seeing);
                async move {
                    let version = request.version();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    seeing.lock().unwrap().push((version, String::from_utf8(body.to_vec()).unwrap()));
                    Ok::<_, Infallible>(Response::new(Empty::<&[u8]>::new()))
                }
            });
            let stream = TokioIo::new(stream);
            // The client closes when the test is over.
            tokio::spawn(async move {
                if is_http2 {
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(stream, service)
                        .await;
                } else {
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
                }
            });
        }
    });
    (address, seen)
}

fn ca_file(authority: &Authority) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), authority.pem()).unwrap();
    file
}

#[tokio::test]
async fn http_2_is_spoken_where_it_is_offered_and_http_1_1_elsewhere() {
    let authority = Authority::new("one");
    let ca_file = ca_file(&authority);
    for (protocols, version) in
        [(&["h2", "http/1.1"][..], Version::HTTP_2), (&["http/1.1"], Version::HTTP_11), (&[], Version::HTTP_11)]
    {
        let (address, seen) = serve(server(&authority, "localhost", protocols)).await;
        let changes = [delivery("a"), delivery("b")];
        sink(&format!("url = \"https://localhost:{}/\"\nca_file = \"{}\"", address.port(), ca_file.path().display()))
            .give(&changes)
            .await
            .unwrap();
        let expected = changes.map(|delivery| (version, serde_json::to_string(&delivery.change).unwrap()));
        assert_eq!(*seen.lock().unwrap(), expected);
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_for_another_host_means_away() {
    let (trusted, other) = (Authority::new("one"), Authority::new("another"));
    let ca_file = ca_file(&trusted);
    for (server, part) in [
        (server(&other, "localhost", &["h2"]), "from an authority that this host does not know"),
        (server(&trusted, "example.com", &["h2"]), "its certificate is for another name"),
    ] {
        let (address, seen) = serve(server).await;
        let failure = sink(&format!(
            "url = \"https://localhost:{}/\"\nca_file = \"{}\"",
            address.port(),
            ca_file.path().display()
        ))
        .give(&[delivery("a")])
        .await
        .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Away { after: None });
        assert!(failure.cause.contains(part), "{}", failure.cause);
        assert!(seen.lock().unwrap().is_empty());
    }
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn nothing_secret_is_logged_over_http_2_at_the_lowest_level() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let authority = Authority::new("one");
    let ca_file = ca_file(&authority);
    let (address, seen) = serve(server(&authority, "localhost", &["h2"])).await;
    sink(&format!(
        "url = \"https://localhost:{}/canary-path?key=canary-query\"\nca_file = \"{}\"\nsigning_secrets = [\"{KEY}\"]
         headers = {{ authorization = \"canary-header\" }}",
        address.port(),
        ca_file.path().display()
    ))
    .give(&[delivery("a")])
    .await
    .unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1);
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("h2::"), "the client's own lines are among them");
    assert!(CANARIES.iter().all(|canary| !logged.contains(canary)), "{logged}");
    assert!(!logged.contains("5544999999999"));
}
