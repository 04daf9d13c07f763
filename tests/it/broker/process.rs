//! Processes and folders that are gone when the tests are, however these end: by a panic, by SIGKILL, or with a server in a
//! `static`, which nobody drops.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex};

use tempfile::TempDir;

/// A command of a process that is killed when this one ends. It has to be started with [`spawn`].
pub(super) fn command(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    // This process may have ended before `setpriv` could say so; then it has another parent.
    command.args(["--pdeathsig", "KILL", "sh", "-c", r#"[ "$PPID" = "$0" ] && exec "$@""#]);
    command.arg(std::process::id().to_string()).arg(program);
    // Where Debian puts servers, and where a user's PATH often doesn't lead.
    command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
    command
}

/// Starts a process.
pub(super) fn spawn(command: &mut Command) -> Child {
    type Job = (Command, Sender<(Command, std::io::Result<Child>)>);
    // The signal comes when the thread ends that started the process, and a test's own thread ends with the test.
    static STARTER: LazyLock<Sender<Job>> = LazyLock::new(|| {
        let (sender, jobs) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, started) in jobs {
                let child = command.spawn();
                started.send((command, child)).expect("somebody waits for it");
            }
        });
        sender
    });
    let (sender, started) = channel();
    let own = std::mem::replace(command, Command::new("true"));
    STARTER.send((own, sender)).expect("its thread goes on as long as the process");
    let (own, child) = started.recv().expect("it answers each");
    *command = own;
    child.expect("setpriv can be run")
}

/// A temporary folder.
pub(super) fn folder() -> TempDir {
    // Reads the folders' names until this process has ended, and gives the servers, which are killed then, a moment to end.
    static SWEEPER: LazyLock<Mutex<ChildStdin>> = LazyLock::new(|| {
        let script = r#"folders=$(cat); sleep 1; printf %s "$folders" | xargs -r -d '\n' rm -rf --"#;
        // In a process group of its own, so that it survives what a terminal's Ctrl-C ends.
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Mutex::new(shell.spawn().expect("there is a shell").stdin.take().expect("it is piped"))
    });
    let folder = tempfile::Builder::new().prefix("broker-").tempdir().expect("a temporary folder can be made");
    let mut sweeper = SWEEPER.lock().expect("nobody panics with it");
    writeln!(sweeper, "{}", folder.path().display()).expect("it reads on");
    folder
}
