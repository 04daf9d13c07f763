//! A receiver as a process of its own, and plain sockets to speak to it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver as Lines, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take that does happen. No test waits this long unless it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How many lines of the log sink are more than a pipe holds, and still one batch.
const BLOCKING: usize = 500;

/// What a receiver says when it listens.
const LISTENING: &str = "receiving callbacks";

/// The secret of every receiver here, unless its configuration has another.
pub(crate) const SECRET: &str = "canary-secret-6f1c2b7d90";

/// The five callbacks of Plugchat's page.
pub(crate) const DOCUMENTED: [&str; 5] = [
    r#"{"instanceId":"instance.id","status":"SENT","ids":["999999999999999999999"],"momment":1632234645000,"phoneDevice":0,"phone":"5544999999999","type":"MessageStatusCallback","isGroup":false}"#,
    r#"{"instanceId":"instance.id","status":"RECEIVED","ids":["999999999999999999999"],"momment":1632234645000,"phoneDevice":0,"phone":"5544999999999","type":"MessageStatusCallback","isGroup":false}"#,
    r#"{"instanceId":"instance.id","status":"READ","ids":["999999999999999999999"],"momment":1632234645000,"phoneDevice":0,"phone":"5544999999999","type":"MessageStatusCallback","isGroup":false}"#,
    r#"{"instanceId":"instance.id","status":"READ-SELF","ids":["999999999999999999999"],"momment":1632234645000,"phoneDevice":0,"phone":"5544999999999","type":"MessageStatusCallback","isGroup":false}"#,
    r#"{"instanceId":"instance.id","status":"PLAYED","ids":["999999999999999999999"],"momment":1632234645000,"phoneDevice":0,"phone":"5544999999999","type":"MessageStatusCallback","isGroup":false}"#,
];

/// The one header that a callback needs.
pub(crate) const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// What is answered to a callback whose one change is new.
pub(crate) const STORED: &str = r#"{"stored": 1, "duplicates": 0}"#;

/// The path of callbacks, with [`SECRET`].
pub(crate) fn path() -> String {
    format!("/message-status/{SECRET}")
}

/// A callback for one message: what the tests vary most.
pub(crate) fn callback(message_id: &str, status: &str, momment: i64) -> String {
    serde_json::json!({
        "instanceId": "instance.id", "status": status, "ids": [message_id], "momment": momment,
        "phoneDevice": 0, "phone": "5544999999999", "type": "MessageStatusCallback", "isGroup": false
    })
    .to_string()
}

/// The program that is tested.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plugchat-receiver"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PLUGCHAT_RECEIVER") {
            command.env_remove(name);
        }
    }
    command
}

/// Has a shell run a command that is about to be started, after `setup`.
pub(crate) fn after(setup: &str, command: &mut Command) {
    through(&["sh", "-c", &format!("{setup}; exec \"$0\" \"$@\"")], command);
}

/// Has another program start a command that is about to be started.
pub(crate) fn through(program: &[&str], command: &mut Command) {
    let mut other = Command::new(program[0]);
    other.args(&program[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    other.current_dir(command.get_current_dir().expect("every receiver has a folder"));
    other.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    *command = other;
}

/// A running receiver. Dropping it kills it.
pub(crate) struct Receiver {
    child: Child,
    /// Where callbacks are posted.
    pub(crate) address: SocketAddr,
    /// Where the operator's API is.
    pub(crate) admin: SocketAddr,
    lines: Lines<String>,
    output: Arc<Mutex<String>>,
    reading: Arc<Reading>,
    home: Home,
}

/// Whether a receiver's standard output is read: a pipe that nobody reads fills up and blocks its writer.
struct Reading {
    goes_on: Mutex<bool>,
    changed: Condvar,
    /// The message after which it stops by itself.
    ends_with: Option<&'static str>,
}

impl Reading {
    fn set(&self, goes_on: bool) {
        *self.goes_on.lock().expect("nobody panics with it") = goes_on;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let goes_on = self.goes_on.lock().expect("nobody panics with it");
        drop(self.changed.wait_while(goes_on, |goes_on| !*goes_on).expect("nobody panics with it"));
    }
}

/// The folder of a receiver: its configuration and its store. It outlives a receiver that is started again.
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    /// A folder with a configuration: listeners on free ports and [`SECRET`], and `extra` TOML after that. An extra that begins with
    /// a bare key adds to `[server]`.
    pub(crate) fn new(extra: &str) -> Self {
        let home = Self::bare();
        home.configure(extra);
        home
    }

    /// A folder with nothing in it.
    pub(crate) fn bare() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder can be made") }
    }

    /// Writes the configuration anew.
    pub(crate) fn configure(&self, extra: &str) {
        let secrets = if extra.contains("secrets") { String::new() } else { format!("secrets = [\"{SECRET}\"]\n") };
        let own_admin = if extra.contains("[admin]") { "" } else { "\n[admin]\nlisten = \"127.0.0.1:0\"\n" };
        let config = format!("[server]\nlisten = \"127.0.0.1:0\"\n{secrets}{extra}\n{own_admin}");
        std::fs::write(self.config(), config).expect("the configuration can be written");
    }

    /// The configuration's path.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    /// The store's folder, unless the configuration names another.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A command of the program, run here.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        if self.config().exists() {
            command.arg("--config").arg(self.config());
        }
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    /// Starts the receiver and waits until it listens.
    pub(crate) fn start(self) -> Receiver {
        self.start_with(|_| {})
    }

    /// Likewise, with a last word on the process.
    pub(crate) fn start_with(self, prepare: impl FnOnce(&mut Command)) -> Receiver {
        self.try_start_with(prepare, false)
            .unwrap_or_else(|ended| panic!("it ended before it listened:\n{}", ended.output))
    }

    /// Likewise, and reads its standard output no further than that.
    pub(crate) fn start_unread(self) -> Receiver {
        self.try_start_with(|_| {}, true)
            .unwrap_or_else(|ended| panic!("it ended before it listened:\n{}", ended.output))
    }

    /// Starts the receiver and waits until it listens, or has ended.
    pub(crate) fn try_start(self) -> Result<Receiver, Ended> {
        self.try_start_with(|_| {}, false)
    }

    fn try_start_with(self, prepare: impl FnOnce(&mut Command), unread: bool) -> Result<Receiver, Ended> {
        let mut command = self.command(&["serve"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        prepare(&mut command);
        let mut child = command.spawn().expect("the program starts");
        let output = Arc::new(Mutex::new(String::new()));
        let (sender, lines) = channel();
        let ends_with = unread.then_some(LISTENING);
        let reading = Arc::new(Reading { goes_on: Mutex::new(true), changed: Condvar::new(), ends_with });
        let stdout = child.stdout.take().expect("piped");
        // Both have a sender, so that the lines end when both streams have.
        follow(stdout, Arc::clone(&output), sender.clone(), Some(Arc::clone(&reading)));
        // It may have been made the same as standard output.
        if let Some(stderr) = child.stderr.take() {
            follow(stderr, Arc::clone(&output), sender, None);
        }
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut receiver = Receiver { child, address: nowhere, admin: nowhere, lines, output, reading, home: self };
        let Some(line) = receiver.find_line("it listens", |line| line["message"] == LISTENING) else {
            return Err(receiver.ended());
        };
        receiver.address = line["address"].as_str().and_then(|text| text.parse().ok()).expect("an address");
        receiver.admin = line["admin"].as_str().and_then(|text| text.parse().ok()).expect("an address");
        Ok(receiver)
    }
}

/// Keeps what a stream says; `reading` makes it the one whose lines are waited for.
fn follow(
    stream: impl std::io::Read + Send + 'static,
    output: Arc<Mutex<String>>,
    lines: std::sync::mpsc::Sender<String>,
    reading: Option<Arc<Reading>>,
) {
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream).lines();
        loop {
            if let Some(reading) = &reading {
                reading.wait();
            }
            let Some(Ok(line)) = stream.next() else { break };
            let mut output = output.lock().expect("nobody panics with it");
            output.push_str(&line);
            output.push('\n');
            drop(output);
            if let Some(reading) = &reading {
                if reading.ends_with.is_some_and(|message| line.contains(message)) {
                    reading.set(false);
                }
                // The test may be done with the receiver already.
                let _ = lines.send(line);
            }
        }
    });
}

/// An HTTP answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The head as it came, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of a refusal with this status, which must have the shape of RFC 9457, and repeat neither the secret nor the
    /// documented phone number.
    pub(crate) fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.header("retry-after").is_some(), status == 503, "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        for member in ["type", "title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
        }
        assert_eq!(problem.get("errors").is_some(), status == 422, "{problem}");
        assert!(!self.body.contains(SECRET) && !self.body.contains("5544999999999"), "{problem}");
        problem
    }
}

impl Receiver {
    /// A receiver in a new folder, with `extra` configuration (see [`Home::new`]).
    pub(crate) fn start(extra: &str) -> Self {
        Home::new(extra).start()
    }

    /// Its folder.
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Posts a body with the secret in the path.
    pub(crate) fn post(&self, body: &str) -> Answer {
        self.post_to(&path(), &JSON, body.as_bytes())
    }

    /// Posts a body to a path with these headers, and a `Content-Length`.
    pub(crate) fn post_to(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        request(self.address, "POST", path, headers, body)
    }

    /// Gets a path of the operator's API.
    pub(crate) fn admin_get(&self, path: &str) -> Answer {
        request(self.admin, "GET", path, &[], b"")
    }

    /// Posts to a path of the operator's API.
    pub(crate) fn admin_post(&self, path: &str) -> Answer {
        request(self.admin, "POST", path, &[], b"")
    }

    /// Runs a command of the program against this receiver; its exit code, standard output and standard error.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = self.home.command(arguments);
        command
            .env("PLUGCHAT_RECEIVER__ADMIN__LISTEN", self.admin.to_string())
            .env("PLUGCHAT_RECEIVER__SERVER__LISTEN", self.address.to_string());
        output_of(&mut command)
    }

    /// The next line on standard output that fits, as JSON; lines before it are skipped.
    pub(crate) fn wait_for_line(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.find_line(what, fits)
            .unwrap_or_else(|| panic!("it ended before a line said that {what}:\n{}", self.output()))
    }

    /// Likewise; `None` when it ends before that.
    fn find_line(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Option<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match serde_json::from_str(&line) {
                    Ok(line) if fits(&line) => return Some(line),
                    _ => {}
                },
                Err(RecvTimeoutError::Timeout) => panic!("no line says that {what}; output so far:\n{}", self.output()),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// The next `count` lines of the log sink.
    pub(crate) fn changes_on_the_log(&self, count: usize) -> Vec<Value> {
        (0..count).map(|_| self.wait_for_line("a status changed", |line| line["target"] == "status")).collect()
    }

    /// Waits until its output has this text in it.
    pub(crate) fn wait_for_output(&self, text: &str) {
        wait_until(text, || self.output().contains(text));
    }

    /// All that it has printed so far, on both streams.
    pub(crate) fn output(&self) -> String {
        self.output.lock().expect("nobody panics with it").clone()
    }

    /// Every stored change, by the operator's API.
    pub(crate) fn stored(&self) -> Vec<Value> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let page = self.admin_get(&format!("/api/v1/changes?limit=1000&after={after}")).json();
            let changes = page["changes"].as_array().expect("a list").clone();
            if changes.is_empty() {
                return all;
            }
            after = page["next"].as_i64().expect("a number");
            all.extend(changes);
        }
    }

    /// Sends SIGTERM, waits for the end, and expects exit code 0.
    pub(crate) fn stop(self) -> Home {
        let (status, home) = self.terminate();
        assert_eq!(status.code(), Some(0));
        home
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(mut self) -> (ExitStatus, Home) {
        signal(self.pid(), "TERM");
        let status = self.wait();
        (status, self.into_home())
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) fn kill(mut self) -> Home {
        self.child.kill().expect("it can be killed");
        self.wait();
        self.into_home()
    }

    /// Waits for the process to end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end; output so far:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal, waits for the end, and reads standard output to its end.
    pub(crate) fn end(self, signal_name: &str) -> Ended {
        signal(self.pid(), signal_name);
        self.ended()
    }

    /// Waits for the end, and reads standard output to its end.
    pub(crate) fn ended(mut self) -> Ended {
        let status = self.wait();
        self.go_on_reading();
        let deadline = Instant::now() + PATIENCE;
        while let Err(RecvTimeoutError::Timeout) | Ok(_) =
            self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            assert!(Instant::now() < deadline, "its standard output does not end");
        }
        let output = self.output();
        Ended { status, output, home: self.into_home() }
    }

    /// Reads its standard output no further, and makes the log sink notice: it waits for somebody to read. How many changes that
    /// took: one batch of a sink, and more than a pipe holds, so none of them counts as delivered.
    pub(crate) fn block_the_log(&self) -> usize {
        self.stop_reading();
        let ids: Vec<String> = (0..BLOCKING).map(|n| format!("filler-{n}")).collect();
        let body = serde_json::json!({
            "instanceId": "instance.id", "status": "SENT", "ids": ids, "momment": 1_632_234_645_000_i64, "phoneDevice": 0,
            "phone": "5544999999999", "type": "MessageStatusCallback", "isGroup": false
        });
        assert_eq!(self.post(&body.to_string()).status, 200);
        BLOCKING
    }

    /// Reads its standard output no further: when the pipe is full, whatever writes to it blocks.
    pub(crate) fn stop_reading(&self) {
        self.reading.set(false);
    }

    /// Reads its standard output again.
    pub(crate) fn go_on_reading(&self) {
        self.reading.set(true);
    }

    fn into_home(mut self) -> Home {
        let empty = Home { folder: tempfile::tempdir().expect("a temporary folder can be made") };
        std::mem::replace(&mut self.home, empty)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Nothing is left to wait for, so its reader ends too.
        self.go_on_reading();
    }
}

/// What is left of a receiver that has ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// All that it printed, on both streams.
    pub(crate) output: String,
    pub(crate) home: Home,
}

impl Ended {
    /// The log sinks' lines. One that was torn by the end is not among them.
    pub(crate) fn changes_on_the_log(&self) -> Vec<Value> {
        let lines = self.output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["target"] == "status").collect()
    }
}

/// Waits for a condition that comes true by itself.
pub(crate) fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    eventually(what, || is_true().then_some(()));
}

/// Sends a signal by name.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("kill can be run");
    assert!(sent.success());
}

/// Runs a command to its end; its exit code, standard output and standard error.
pub(crate) fn output_of(command: &mut Command) -> (i32, String, String) {
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code().expect("it ended by itself"), text(output.stdout), text(output.stderr))
}

/// One request on a connection of its own.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = connect(address);
    send_request(&mut stream, method, path, headers, body);
    read_answer(&mut stream)
}

/// A connection that gives up after [`PATIENCE`].
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    stream.set_nodelay(true).expect("it is a TCP socket");
    stream
}

/// Writes a request with a `Content-Length`.
pub(crate) fn send_request(stream: &mut impl Write, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    // The receiver may answer and close before it has read everything: then the answer says what happened.
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
}

/// Writes the lines of a request's head, and the empty one after them.
pub(crate) fn send_head(stream: &mut impl Write, lines: &[&str]) {
    write(stream, format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes());
}

/// Writes all of these bytes.
pub(crate) fn write(stream: &mut impl Write, bytes: &[u8]) {
    stream.write_all(bytes).expect("the receiver reads on");
}

/// All that comes until the other side closes.
pub(crate) fn read_to_close(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it closes in time, and not by a reset");
    text
}

/// Tries until it works: for what follows by itself from what was done, without a sign.
pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads one answer, which must have a `Content-Length`.
pub(crate) fn read_answer(stream: &mut impl Read) -> Answer {
    try_read_answer(stream).unwrap_or_else(|error| panic!("no answer: {error}"))
}

/// Reads one answer, if one comes.
pub(crate) fn try_read_answer(stream: &mut impl Read) -> std::io::Result<Answer> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status code");
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().expect("a number"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Answer { status, head, body: String::from_utf8_lossy(&body).into_owned() })
}

/// A terminal, and the end of it that a program has.
pub(crate) fn terminal() -> (File, File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal can be made");
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("it is ours");
    let name = ptsname(&terminal, Vec::new()).expect("it has a name");
    let end = File::options().read(true).write(true).open(name.to_str().expect("ASCII")).expect("it is there");
    (File::from(terminal), end)
}

/// A path in the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
