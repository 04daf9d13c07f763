//! The proxies that `deploy/` has a file for, run with that file, and callers who speak TLS to them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use crate::sockets::socket;
use crate::support::{Answer, JSON, PATIENCE, path, read_answer, repository, send_request, signal, wait_until};

/// The name that the certificate is for, as callers write it into their requests.
const NAME: &str = "localhost";

/// Where the shipped files expect the receiver.
const SHIPPED_RECEIVER: &str = "127.0.0.1:8080";

/// A proxy that there is a file for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Caddy,
    Nginx,
}

/// Every one of them.
pub(crate) const KINDS: [Kind; 2] = [Kind::Caddy, Kind::Nginx];

/// A running proxy. Dropping it kills it.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) kind: Kind,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    trust: Arc<ClientConfig>,
    folder: TempDir,
}

impl Proxy {
    /// Starts one in front of `receiver` with its shipped file, in which only places are changed.
    pub(crate) fn start(kind: Kind, receiver: SocketAddr) -> Self {
        Self::start_with(kind, &receiver.to_string(), &[])
    }

    /// Likewise, with more changes to the file: what is there, and what stands there instead.
    pub(crate) fn start_with(kind: Kind, receiver: &str, changes: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let trust = certify(&folder);
        let address = own_address();
        let edit = |file: &str, places: &[(&str, &str)]| {
            let mut text = std::fs::read_to_string(repository("deploy").join(file)).expect("it is shipped");
            for (shipped, here) in places.iter().chain(changes) {
                assert!(text.contains(shipped), "{file} has no {shipped:?}");
                text = text.replace(shipped, here);
            }
            std::fs::write(folder.path().join(file), text).expect("it can be written");
        };
        let within = |name: &str| folder.path().join(name).display().to_string();
        let mut command = match kind {
            Kind::Caddy => {
                let bind = format!("bind {}", address.ip());
                let tls = format!("tls {} {}", within("certificate.pem"), within("key.pem"));
                edit(
                    "Caddyfile",
                    &[
                        ("auto_https", &format!("admin off\n\thttps_port {}\n\tauto_https", address.port())),
                        ("\tlog\n", &format!("\tlog\n\t{bind}\n\t{tls}\n")),
                        ("https:// {", &format!("https:// {{\n\t{bind}")),
                    ],
                );
                let mut caddy = Command::new("caddy");
                caddy.args(["run", "--adapter", "caddyfile", "--config", &within("Caddyfile")]);
                caddy.env("STATUS_DOMAIN", NAME).env("STATUS_RECEIVER", receiver).env("HOME", folder.path());
                caddy.env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
                caddy
            }
            Kind::Nginx => {
                edit(
                    "nginx.conf",
                    &[
                        (SHIPPED_RECEIVER, receiver),
                        ("server_name status.example.com", &format!("server_name {NAME}")),
                        ("listen 443 ssl", &format!("listen {address} ssl")),
                        ("listen [::]:443 ssl;", ""),
                        ("/etc/letsencrypt/live/status.example.com/fullchain.pem", &within("certificate.pem")),
                        ("/etc/letsencrypt/live/status.example.com/privkey.pem", &within("key.pem")),
                        ("/var/log/nginx/plugchat-receiver.log", "access.log"),
                    ],
                );
                let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|what| format!("{what}_temp_path temporary-{what};"))
                    .join(" ");
                // What nginx's own file has around those of its sites.
                let around = format!(
                    "daemon off; master_process off; pid pid; error_log error.log;\n\
                     events {{}}\n\
                     http {{ access_log default.log; {temporary} include nginx.conf; }}\n"
                );
                std::fs::write(folder.path().join("around.conf"), around).expect("it can be written");
                let mut nginx = Command::new("nginx");
                nginx.args(["-e", "error.log", "-c", "around.conf", "-p"]).arg(folder.path());
                nginx
            }
        };
        let said = |name: &str| std::fs::File::create(folder.path().join(name)).expect("it can be made");
        command.stdin(Stdio::null()).stdout(said("stdout.log")).stderr(said("stderr.log"));
        let child = command.spawn().unwrap_or_else(|error| panic!("{kind:?} is not installed: {error}"));
        let mut proxy = Self { child, kind, address, trust, folder };
        wait_until("the proxy listens", || {
            let ended = proxy.child.try_wait().expect("it can be waited for");
            assert!(ended.is_none(), "it ended:\n{}", proxy.logs());
            TcpStream::connect(address).is_ok()
        });
        proxy
    }

    /// A connection over TLS.
    pub(crate) fn connect(&self) -> Https {
        self.connect_from(Ipv4Addr::LOCALHOST)
    }

    /// Likewise, from this address of this host.
    pub(crate) fn connect_from(&self, source: Ipv4Addr) -> Https {
        let name = ServerName::try_from(NAME).expect("a name");
        let session = ClientConnection::new(Arc::clone(&self.trust), name).expect("the configuration is complete");
        StreamOwned::new(session, self.connect_plainly_from(source))
    }

    /// A connection without TLS, to the same port.
    pub(crate) fn connect_plainly(&self) -> TcpStream {
        self.connect_plainly_from(Ipv4Addr::LOCALHOST)
    }

    fn connect_plainly_from(&self, source: Ipv4Addr) -> TcpStream {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("it can be built");
        let connecting = async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from((source, 0)))?;
            socket.connect(self.address).await?.into_std()
        };
        let stream = runtime.block_on(connecting).expect("it listens");
        stream.set_nonblocking(false).expect("it is a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        stream.set_nodelay(true).expect("it is a TCP socket");
        stream
    }

    /// Posts a body over TLS, with the secret in the path.
    pub(crate) fn post(&self, body: &str) -> Answer {
        self.post_to(&path(), &JSON, body)
    }

    /// Posts a body over TLS to a path with these headers.
    pub(crate) fn post_to(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = self.connect();
        send_request(&mut stream, "POST", path, headers, body.as_bytes());
        read_answer(&mut stream)
    }

    /// Ends it in order; all that it has logged and printed.
    pub(crate) fn end(mut self) -> String {
        signal(self.child.id(), "TERM");
        wait_until("the proxy ends", || self.child.try_wait().expect("it can be waited for").is_some());
        self.logs()
    }

    fn logs(&self) -> String {
        let mut logs = String::new();
        for entry in std::fs::read_dir(self.folder.path()).expect("it is there") {
            let file = entry.expect("a file").path();
            if file.extension().is_some_and(|extension| extension == "log") {
                logs.push_str(&std::fs::read_to_string(file).expect("logs are text"));
            }
        }
        logs
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A caller's connection.
pub(crate) type Https = StreamOwned<ClientConnection, TcpStream>;

/// Sends a request on a connection that is kept, and reads its answer.
pub(crate) fn exchange(stream: &mut (impl Read + Write), body: &str) -> Answer {
    send_request(stream, "POST", &path(), &JSON, body.as_bytes());
    read_answer(stream)
}

/// Listens where the receiver would, and does this with every connection; what it returns is kept open.
pub(crate) fn in_the_receivers_place(behave: fn(TcpStream) -> Option<TcpStream>) -> String {
    let listener = socket();
    let address = listener.local_addr().expect("it is bound").to_string();
    // It ends with the tests.
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().flatten() {
            kept.extend(behave(stream));
        }
    });
    address
}

/// Makes an authority, and a certificate by it for [`NAME`]; who trusts the authority.
fn certify(folder: &TempDir) -> Arc<ClientConfig> {
    let mut authority = CertificateParams::new([]).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, key()).expect("it can be signed");
    let own = key();
    let certificate = CertificateParams::new([NAME.to_owned()]).expect("a name");
    let certificate = certificate.signed_by(&own, &authority).expect("it can be signed");
    for (name, der, label) in [
        ("certificate.pem", certificate.der().as_ref(), "CERTIFICATE"),
        ("key.pem", &own.serialize_der(), "PRIVATE KEY"),
    ] {
        let lines = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        let pem = format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n");
        std::fs::write(folder.path().join(name), pem).expect("it can be written");
    }
    let mut trusted = RootCertStore::empty();
    trusted.add(authority.der().clone()).expect("it is an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Arc::new(config.expect("ring has them").with_root_certificates(trusted).with_no_client_auth())
}

fn key() -> KeyPair {
    KeyPair::generate().expect("it can be made")
}

/// An address of this host that nobody else uses: proxies can't be told to take a free port.
fn own_address() -> SocketAddr {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from(([127, 64 | (high & 63), low, count], 8443))
}
