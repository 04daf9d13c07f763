//! Redis with a log of its changes that is synced before it answers.

use std::path::Path;

use super::tls::Certificates;
use super::{Server, process};

/// A server that everybody may use.
pub(crate) fn start() -> Server {
    start_with("")
}

/// One with further lines in its configuration, in which `{port}` stands for its port. They win over its own.
pub(crate) fn start_with(lines: &str) -> Server {
    Server::start("Ready to accept connections", |folder, port| {
        configure(folder, port, lines);
        let mut command = process::command("redis-server");
        command.arg(folder.join("redis.conf"));
        command
    })
}

/// Gives a server other further lines, from its next start on.
pub(crate) fn reconfigure(server: &Server, lines: &str) {
    configure(server.folder(), server.port, lines);
}

/// Lines that make a server listen for TLS only; if `mutual`, it wants a certificate from its clients.
pub(crate) fn tls(certificates: &Certificates, mutual: bool) -> String {
    let [authority, certificate, key] = certificates.server();
    let clients = if mutual { "yes" } else { "no" };
    format!(
        "port 0\ntls-port {{port}}\ntls-ca-cert-file \"{authority}\"\ntls-cert-file \"{certificate}\"\n\
         tls-key-file \"{key}\"\ntls-auth-clients {clients}\n"
    )
}

fn configure(folder: &Path, port: u16, lines: &str) {
    let lines = format!(
        "bind 127.0.0.1\nport {port}\ndir \"{}\"\nappendonly yes\nappendfsync always\nsave \"\"\n{}\n",
        folder.display(),
        lines.replace("{port}", &port.to_string())
    );
    std::fs::write(folder.join("redis.conf"), lines).expect("the folder is there");
}
