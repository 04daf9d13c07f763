//! What systemd hands over, and what it wants to be told: listening sockets, that callbacks are received, that all is well.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use anyhow::{Context as _, bail};
use listenfd::ListenFd;

/// The name (`FileDescriptorName=`) of the socket that is for the operator; one of any other name is for callbacks.
const ADMIN: &str = "admin";

/// Sockets that listen already, from before this process began. They stay open when it ends, so nobody is refused over a restart.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For callbacks; `None`: the configuration says where to listen.
    pub public: Option<TcpListener>,
    /// For the operator; likewise.
    pub admin: Option<TcpListener>,
}

impl Listeners {
    /// Those that were handed over (`LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES`, as in `sd_listen_fds(3)`). To be called once,
    /// before there are other threads, because it takes the variables out of the environment.
    ///
    /// # Errors
    /// When there is one that it has no use for: whoever connects to that would wait for ever.
    pub fn take() -> anyhow::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut sockets = ListenFd::from_env();
        let mut listeners = Self::default();
        for index in 0..sockets.len() {
            let name = names.next().unwrap_or_default();
            let listener = sockets.take_tcp_listener(index).with_context(|| {
                format!("cannot use the socket {name:?} that was handed over; expected one with ListenStream=IP:PORT")
            })?;
            let place = if name == ADMIN { &mut listeners.admin } else { &mut listeners.public };
            if place.is_some() {
                bail!(
                    "cannot use the socket {name:?} that was handed over: there may be one for callbacks, and one with \
                     FileDescriptorName={ADMIN}"
                );
            }
            *place = listener;
        }
        Ok(listeners)
    }
}

/// The way to tell systemd how it goes, as in `sd_notify(3)`.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The one that the environment names, if it does.
    ///
    /// # Errors
    /// When it names one that can't be reached.
    pub fn from_env() -> anyhow::Result<Option<Self>> {
        let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return Ok(None) };
        let socket = UnixDatagram::unbound()?;
        socket.connect(&path).with_context(|| format!("cannot reach NOTIFY_SOCKET ({})", path.display()))?;
        // A manager that does not listen holds nobody up.
        socket.set_nonblocking(true)?;
        let variable = |name| std::env::var(name).ok();
        // It may be meant for the process that started this one.
        let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let interval = variable("WATCHDOG_USEC").and_then(|microseconds| microseconds.parse().ok());
        let watchdog = interval.filter(|interval| is_ours && *interval > 0).map(Duration::from_micros);
        Ok(Some(Self { socket, watchdog }))
    }

    /// How long the watchdog waits for [`well`](Self::well) before it restarts the receiver; `None` without one.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The start is over.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// All is well, for the watchdog.
    pub fn well(&self) {
        self.tell("WATCHDOG=1");
    }

    /// The end begins.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, state: &str) {
        if let Err(error) = self.socket.send(state.as_bytes()) {
            tracing::warn!(%error, state, "cannot tell systemd");
        }
    }
}
