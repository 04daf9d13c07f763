//! What the tests of queue sinks rely on: real brokers.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::broker::tls::Certificates;
use crate::broker::{Server, nats, rabbitmq, redis};
use crate::support::{PATIENCE, connect, wait_until, write};

/// What a client of RabbitMQ says first.
const AMQP: &[u8] = b"AMQP\x00\x00\x09\x01";

#[test]
fn every_broker_answers_as_soon_as_it_has_started() {
    assert_eq!(exchange(connect(nats::start().address()), b"", 6).unwrap(), b"INFO {");
    assert_eq!(exchange(connect(redis::start().address()), b"PING\r\n", 7).unwrap(), b"+PONG\r\n");
    assert!(is_connection_start(&exchange(connect(rabbitmq::shared().address()), AMQP, 11).unwrap()));
}

#[test]
fn nats_has_jetstream() {
    let info = line(&mut connect(nats::start().address()));
    assert!(info.contains(r#""jetstream":true"#), "{info}");
}

#[test]
fn a_cluster_of_nats_keeps_a_stream_on_each_of_its_servers() {
    let servers = nats::cluster("");
    let stream = r#"{"name":"S","subjects":["s"],"num_replicas":3}"#;
    let mut client = connect(servers[0].address());
    let request = format!("SUB inbox 1\r\nPUB $JS.API.STREAM.CREATE.S inbox {}\r\n{stream}\r\n", stream.len());
    write(&mut client, format!("CONNECT {{\"verbose\":false}}\r\n{request}").as_bytes());
    let answer = std::iter::repeat_with(|| line(&mut client)).find(|line| line.starts_with('{')).unwrap();
    assert!(answer.contains(r#""num_replicas":3"#), "{answer}");
}

#[test]
fn every_test_can_have_a_virtual_host_and_users_of_its_own_on_the_shared_rabbitmq() {
    let server = rabbitmq::shared();
    let (one, another) = (rabbitmq::virtual_host(server), rabbitmq::virtual_host(server));
    assert_ne!(one, another);
    let user = format!("user-of-{one}");
    rabbitmq::ctl(server, &["add_user", &user, "password"]);
    rabbitmq::ctl(server, &["set_permissions", "--vhost", &one, &user, "", ".*", ""]);
    let permissions = rabbitmq::ctl(server, &["list_permissions", "--vhost", &one, "--no-table-headers"]);
    assert!(
        permissions.contains("guest\t.*\t.*\t.*") && permissions.contains(&format!("{user}\t\t.*\t")),
        "{permissions}"
    );
}

#[test]
fn every_broker_wants_a_certificate_from_its_clients_if_told() {
    let certificates = Certificates::new();
    let nats = nats::start_with(&nats::tls(&certificates, true));
    let redis = redis::start_with(&redis::tls(&certificates, true));
    let rabbitmq = rabbitmq::start_with(&rabbitmq::tls(&certificates, true));
    let try_all = |with_certificate| {
        let tls = |server: &Server, in_clear: fn(&mut TcpStream)| {
            let mut stream = connect(server.address());
            in_clear(&mut stream);
            over_tls(stream, &certificates, with_certificate)
        };
        [
            exchange(tls(&nats, |stream| assert!(line(stream).starts_with("INFO {"))), b"CONNECT {}\r\nPING\r\n", 5),
            exchange(tls(&redis, |_| {}), b"PING\r\n", 7),
            exchange(tls(&rabbitmq, |_| {}), AMQP, 11),
        ]
    };
    assert!(try_all(false).iter().all(Result::is_err));
    let [nats, redis, rabbitmq] = try_all(true).map(Result::unwrap);
    assert_eq!((nats.as_slice(), redis.as_slice()), (b"+OK\r\n".as_slice(), b"+PONG\r\n".as_slice()));
    assert!(is_connection_start(&rabbitmq));
}

#[test]
fn a_broker_has_the_configuration_that_its_test_gave_it() {
    let server = nats::start_with("max_payload: 4321");
    let info = line(&mut connect(server.address()));
    assert!(info.contains(r#""max_payload":4321"#), "{info}");

    let mut server = redis::start_with("requirepass one");
    assert!(ask(server.address(), "PING").starts_with("-NOAUTH"));
    server.kill();
    redis::reconfigure(&server, "");
    server.start_again();
    assert_eq!(ask(server.address(), "PING"), "+PONG");
}

#[test]
fn what_redis_has_answered_survives_a_kill_and_a_new_start() {
    let mut server = redis::start();
    assert_eq!(ask(server.address(), "PING"), "+PONG");
    assert_eq!(ask(server.address(), "SET key value"), "+OK");
    let address = server.address();
    server.kill();
    assert!(TcpStream::connect(address).is_err());
    server.start_again();
    assert_eq!(server.address(), address);
    assert_eq!(ask(address, "STRLEN key"), ":5");
}

#[test]
fn nothing_is_left_of_a_server_that_was_dropped() {
    for server in [nats::start(), redis::start(), rabbitmq::start()] {
        let (traces, folder) = (traces(&server), server.folder().to_owned());
        assert!(traces.iter().all(|path| path.exists()) && !processes_in(&folder).is_empty());
        drop(server);
        assert!(traces.iter().all(|path| !path.exists()));
        // What it started itself notices that it is gone.
        wait_until("its own children are gone", || processes_in(&folder).is_empty());
    }
}

#[test]
fn no_server_outlives_the_tests_that_are_killed() {
    let mut tests = Command::new(std::env::current_exe().unwrap());
    tests.args(["--exact", "brokers::servers_for_tests_that_are_killed", "--ignored", "--nocapture"]);
    let mut tests = tests.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(tests.stdout.take().unwrap()).lines().map(Result::unwrap);
    let traces: Vec<PathBuf> = lines
        .filter_map(|line| Some(line.split_once("trace: ")?.1.into()))
        .take_while(|path: &PathBuf| path != Path::new("all"))
        .collect();
    assert!(traces.len() == 8 && traces.iter().all(|path| path.exists()), "{traces:?}");
    tests.kill().unwrap();
    tests.wait().unwrap();
    wait_until("its servers and their folders are gone", || traces.iter().all(|path| !path.exists()));
}

#[test]
#[ignore = "another test starts this one, to kill it"]
fn servers_for_tests_that_are_killed() {
    let servers = [&nats::start(), &redis::start(), rabbitmq::shared()];
    for trace in servers.into_iter().flat_map(traces) {
        println!("trace: {}", trace.display());
    }
    println!("trace: all");
    std::thread::sleep(PATIENCE);
}

/// What can be seen of a server and its companion: processes and folders. A process that has ended works nowhere, even if nobody
/// has waited for it.
fn traces(server: &Server) -> Vec<PathBuf> {
    std::iter::successors(Some(server), |server| server.companion())
        .flat_map(|server| [PathBuf::from(format!("/proc/{}/cwd", server.pid())), server.folder().to_owned()])
        .collect()
}

/// The processes that work in a folder.
fn processes_in(folder: &Path) -> Vec<PathBuf> {
    let processes =
        std::fs::read_dir("/proc").expect("Linux has it").map(|entry| entry.expect("it can be read").path());
    // One may end while it is looked at, and others are not ours to look at.
    processes
        .filter(|process| std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder)))
        .collect()
}

/// So many bytes of what is answered to `hello`.
fn exchange(mut stream: impl Read + Write, hello: &[u8], length: usize) -> std::io::Result<Vec<u8>> {
    stream.write_all(hello)?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// Whether it begins with what RabbitMQ says first: a frame with a method, on channel 0, of some size, and class and method 10.
fn is_connection_start(answer: &[u8]) -> bool {
    answer.starts_with(&[1, 0, 0]) && answer[7..].starts_with(&[0, 10, 0, 10])
}

/// TLS with a server, and with the client's certificate or without.
fn over_tls(
    stream: TcpStream,
    certificates: &Certificates,
    with_certificate: bool,
) -> StreamOwned<ClientConnection, TcpStream> {
    let certificate = |file| CertificateDer::from_pem_file(certificates.path(file)).expect("it is one");
    let mut authorities = RootCertStore::empty();
    authorities.add(certificate("ca.pem")).expect("it is one");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(authorities);
    let config = if with_certificate {
        let key = PrivateKeyDer::from_pem_file(certificates.path("client.key")).expect("it is one");
        config.with_client_auth_cert(vec![certificate("client.pem")], key).expect("they are a pair")
    } else {
        config.with_no_client_auth()
    };
    let name = "localhost".try_into().expect("it is a name");
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("the configuration is complete"), stream)
}

/// The answer to a command, on a connection of its own.
pub(crate) fn ask(redis: SocketAddr, command: &str) -> String {
    let mut stream = connect(redis);
    write(&mut stream, format!("{command}\r\n").as_bytes());
    line(&mut stream)
}

/// The next line, and nothing after it.
pub(crate) fn line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the server answers");
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("answers are ASCII").trim_end().to_owned()
}
