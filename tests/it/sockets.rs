//! Sockets that are handed to a receiver, as systemd does it.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use crate::support::after;

/// Hands a command that is about to be started these sockets, one or two, each with its name.
pub(crate) fn hand_over(command: &mut Command, sockets: &[(&str, &TcpListener)]) {
    // The standard streams are all that a process can be given here: the shell makes them what systemd would have made them.
    let streams = ["3<&0 0</dev/null", "3<&0 4<&2 0</dev/null 2>&1"][sockets.len() - 1];
    let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
    let (count, names) = (names.len(), names.join(":"));
    after(&format!("exec {streams}; export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES='{names}'"), command);
    let mut given = sockets.iter().map(|(_, socket)| {
        let socket = socket.try_clone().expect("it can be cloned");
        Stdio::from(OwnedFd::from(socket))
    });
    command.stdin(given.next().expect("there is one"));
    if let Some(second) = given.next() {
        command.stderr(second);
    }
}

/// A socket that listens, on a free port.
pub(crate) fn socket() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("there is a free port")
}
