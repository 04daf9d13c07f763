//! The servers that are measured: the receiver, and a bare one to compare it with. Each is a process of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use axum::Json;
use axum::Router;
use axum::routing::post;
use serde_json::Value;
use tempfile::TempDir;

/// What this program is called with to be the bare server.
pub(crate) const BASELINE: &str = "baseline";

/// Where callbacks are posted, at the receiver.
pub(crate) const PATH: &str = "/message-status/benchmark";

/// The kernel counts a process's time in these.
const TICK: Duration = Duration::from_millis(10);

/// A running server. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    /// Where it answers.
    pub(crate) address: SocketAddr,
    /// The operator's listener, when it is a receiver.
    pub(crate) admin: SocketAddr,
    _folder: TempDir,
}

impl Server {
    /// A receiver with these sinks, and a store in a new folder under `target`: `/tmp` may be in memory.
    pub(crate) async fn receiver(sinks: &str) -> anyhow::Result<Self> {
        let (address, admin) = (free()?, free()?);
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let config = folder.path().join("config.toml");
        let text = format!(
            "[server]\nlisten = \"{address}\"\nsecrets = [\"benchmark\"]\n[admin]\nlisten = \"{admin}\"\n\
             [log]\nlevel = \"warn\"\n[store.sqlite]\npath = {:?}\n[sinks]\n{sinks}",
            folder.path().join("data")
        );
        fs::write(&config, text)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_plugchat-receiver"));
        command.arg("--config").arg(config).arg("serve");
        Self::start(command, address, admin, folder).await
    }

    /// A server that parses each body as JSON and answers, by the same libraries.
    pub(crate) async fn baseline() -> anyhow::Result<Self> {
        let address = free()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(BASELINE).arg(address.port().to_string());
        Self::start(command, address, address, tempfile::tempdir()?).await
    }

    async fn start(
        mut command: Command,
        address: SocketAddr,
        admin: SocketAddr,
        folder: TempDir,
    ) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("cannot start a server")?;
        let mut server = Self { child, address, admin, _folder: folder };
        let begun = Instant::now();
        while std::net::TcpStream::connect(admin).is_err() || std::net::TcpStream::connect(address).is_err() {
            ensure!(server.child.try_wait()?.is_none(), "a server ended before it answered");
            ensure!(begun.elapsed() < Duration::from_secs(10), "a server does not answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(server)
    }

    /// The CPU time that its process has used so far, in user and kernel mode, to the hundredth of a second.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(Path::new("/proc").join(self.child.id().to_string()).join("stat"))?;
        // The name in the second field may have spaces.
        let (_, fields) = stat.rsplit_once(") ").context("it has a name")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks = fields[11].parse::<u32>()? + fields[12].parse::<u32>()?;
        Ok(TICK * ticks)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Serves as the bare server, until it is killed.
pub(crate) async fn serve_baseline(port: u16) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let answer = async |Json(body): Json<Value>| {
        Json(serde_json::json!({ "stored": body["ids"].as_array().map_or(0, Vec::len), "duplicates": 0 }))
    };
    axum::serve(listener, Router::new().route(PATH, post(answer))).await?;
    Ok(())
}
