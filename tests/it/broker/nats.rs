//! NATS with JetStream.

use std::path::Path;

use super::tls::Certificates;
use super::{Server, comes_true, free_port, process};

/// A server that everybody may use.
pub(crate) fn start() -> Server {
    start_with("")
}

/// One with further lines in its configuration, in which `{port}` stands for its port.
pub(crate) fn start_with(lines: &str) -> Server {
    Server::start("Server is ready", |folder, port| {
        configure(folder, port, lines);
        let mut command = process::command("nats-server");
        command.arg("--config").arg(folder.join("nats.conf"));
        command
    })
}

/// Three servers as one cluster, so that streams can have three replicas, with further lines for each.
pub(crate) fn cluster(lines: &str) -> [Server; 3] {
    let ports = [(); 3].map(|()| free_port());
    let routes = ports.map(|port| format!("\"nats://127.0.0.1:{port}\"")).join(", ");
    let servers = ports.map(|port| {
        start_with(&format!(
            "server_name: server-{port}\ncluster {{ name: cluster, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}\n{lines}"
        ))
    });
    let knows_a_leader = |server: &Server| {
        let output = server.output();
        output.contains("new metadata leader") || output.contains("Self is new JetStream cluster metadata leader")
    };
    assert!(comes_true(|| servers.iter().all(knows_a_leader)), "no leader:\n{}", servers[0].output());
    servers
}

/// Gives a server other further lines, from its next start on.
pub(crate) fn reconfigure(server: &Server, lines: &str) {
    configure(server.folder(), server.port, lines);
}

/// Lines that make a server want TLS; if `mutual`, with a certificate from its clients, too.
pub(crate) fn tls(certificates: &Certificates, mutual: bool) -> String {
    let [authority, certificate, key] = certificates.server();
    format!("tls {{ ca_file: \"{authority}\", cert_file: \"{certificate}\", key_file: \"{key}\", verify: {mutual} }}\n")
}

fn configure(folder: &Path, port: u16, lines: &str) {
    let store = folder.join("jetstream");
    let lines = format!(
        "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\", max_mem: 64MB, max_file: 1GB }}\n{}\n",
        store.display(),
        lines.replace("{port}", &port.to_string())
    );
    std::fs::write(folder.join("nats.conf"), lines).expect("the folder is there");
}
