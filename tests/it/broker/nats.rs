//! NATS with JetStream.

use std::path::Path;

use super::tls::Certificates;
use super::{Server, process};

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
