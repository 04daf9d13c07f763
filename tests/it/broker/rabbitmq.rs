//! RabbitMQ. It takes some seconds to start, so most tests share one, each in a virtual host of its own.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::tls::Certificates;
use super::{Server, free_port, process};

/// Where the programs are that Debian's own wrap to change the user.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

/// The one that runs as long as the tests do. It is not for killing. Its user `guest`, with this password, may do everything.
pub(crate) fn shared() -> &'static Server {
    static SHARED: LazyLock<Server> = LazyLock::new(start);
    &SHARED
}

/// A server of one's own.
pub(crate) fn start() -> Server {
    start_with("")
}

/// One with further lines in its `rabbitmq.conf`, in which `{port}` stands for its port. If they say where it listens, it listens
/// nowhere else.
pub(crate) fn start_with(lines: &str) -> Server {
    // Erlang's registry of nodes: without one of its own, each server would leave one running.
    let registry = Server::start("epmd running", |_, port| {
        let mut command = process::command("epmd");
        command.args(["-d", "-address", "127.0.0.1", "-port", &port.to_string()]);
        command
    });
    let mut server = Server::start("Server startup complete", |folder, port| {
        configure(folder, port, lines);
        let mut command = program("rabbitmq-server", folder, registry.port);
        command.env("RABBITMQ_DIST_PORT", free_port().to_string());
        command
    });
    server.companion = Some(Box::new(registry));
    server
}

/// Gives a server other further lines, from its next start on.
pub(crate) fn reconfigure(server: &Server, lines: &str) {
    configure(server.folder(), server.port, lines);
}

/// A new virtual host, in which `guest` may do everything. Its name needs no quoting in a URL.
pub(crate) fn virtual_host(server: &Server) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let name = format!("host-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    ctl(server, &["add_vhost", &name]);
    ctl(server, &["set_permissions", "--vhost", &name, "guest", ".*", ".*", ".*"]);
    name
}

/// Runs `rabbitmqctl` with these arguments, which must succeed; what it prints.
pub(crate) fn ctl(server: &Server, arguments: &[&str]) -> String {
    let registry = server.companion.as_ref().expect("it was started here");
    let mut command = program("rabbitmqctl", server.folder(), registry.port);
    let output = command.arg("--quiet").args(arguments).output().expect("a shell can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}:\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Lines that make a server listen for TLS only; if `mutual`, it wants a certificate from its clients.
pub(crate) fn tls(certificates: &Certificates, mutual: bool) -> String {
    let [authority, certificate, key] = certificates.server();
    let verify = if mutual { "verify_peer" } else { "verify_none" };
    format!(
        "listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:{{port}}\nssl_options.cacertfile = {authority}\n\
         ssl_options.certfile = {certificate}\nssl_options.keyfile = {key}\nssl_options.verify = {verify}\n\
         ssl_options.fail_if_no_peer_cert = {mutual}\n"
    )
}

fn configure(folder: &Path, port: u16, lines: &str) {
    let mut lines = lines.replace("{port}", &port.to_string());
    if !lines.contains("listeners.") {
        lines.push_str(&format!("\nlisteners.tcp.1 = 127.0.0.1:{port}\n"));
    }
    std::fs::write(folder.join("rabbitmq.conf"), lines).expect("the folder is there");
}

/// One of its programs, kept from all that is configured for the system's own server.
fn program(name: &str, folder: &Path, registry: u16) -> Command {
    let mut command = process::command(&format!("{PROGRAMS}/{name}"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("LANG", "C.UTF-8").env("HOME", folder);
    command.env("ERL_EPMD_ADDRESS", "127.0.0.1").env("ERL_EPMD_PORT", registry.to_string());
    command.env("ERL_FLAGS", "-start_epmd false").env("ERL_CRASH_DUMP", "/dev/null");
    command.env("RABBITMQ_NODENAME", "broker@localhost");
    for (variable, file) in [
        ("RABBITMQ_CONF_ENV_FILE", "none"),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", "none"),
        ("RABBITMQ_CONFIG_FILES", "none"),
        ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", "plugins"),
        ("RABBITMQ_GENERATED_CONFIG_DIR", "generated"),
        ("RABBITMQ_LOG_BASE", "log"),
        ("RABBITMQ_MNESIA_BASE", "data"),
        ("RABBITMQ_PID_FILE", "pid"),
        ("RABBITMQ_SCHEMA_DIR", "schema"),
    ] {
        command.env(variable, folder.join(file));
    }
    // To standard output.
    command.env("RABBITMQ_LOGS", "-");
    // Then the script becomes the server, instead of waiting for it.
    command.env("RUNNING_UNDER_SYSTEMD", "true");
    command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 -kernel inet_dist_use_interface {127,0,0,1}");
    // Any port, for the connection of `rabbitmqctl`: several may run at once.
    command.env("RABBITMQ_CTL_DIST_PORT_MIN", "0").env("RABBITMQ_CTL_DIST_PORT_MAX", "0");
    command
}
