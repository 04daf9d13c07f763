//! A receiver, and a shell in which what the documentation calls is at hand.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::pages::Call;
use crate::destination::{Destination, Reply};
use crate::fake_plugchat::{Behaviour, FakePlugchat, TOKEN};
use crate::support::{Home, Receiver, callback, eventually, output_of, through};

/// The folder in which the commands of a page are run, and a receiver of its own for them.
pub(super) struct Console {
    receiver: Receiver,
    _destination: Destination,
    _plugchat: FakePlugchat,
}

impl Console {
    pub(super) fn start() -> Self {
        let destination = Destination::start(|_, _| Reply::Status(400));
        let plugchat = FakePlugchat::start(Behaviour::Documented);
        let home = Home::new(&format!(
            "public_url = \"https://status.example.com\"\n[plugchat]\nendpoint = \"{}\"\n[sinks.audit.log]\n{}",
            plugchat.endpoint(),
            destination.sink("crm")
        ));
        let receiver = home.start();
        let folder = receiver.home().store().with_file_name("");
        std::fs::write(folder.join("plugchat-token"), TOKEN).expect("it can be written");
        // TLS is the proxy's: here the public URL is the receiver itself.
        let (address, admin) = (receiver.address, receiver.admin);
        let own = format!("s|https://status.example.com|http://{address}|; s|http://127.0.0.1:8081|http://{admin}|");
        let program = env!("CARGO_BIN_EXE_plugchat-receiver");
        write_program(
            &folder.join("bin/plugchat-receiver"),
            &format!("[ \"$1\" != url ] || {{ '{program}' url | sed '{own}'; exit; }}\nexec '{program}' \"$@\""),
        );
        write_program(
            &folder.join("bin/curl"),
            &format!(
                "for word; do shift; set -- \"$@\" \"$(printf %s \"$word\" | sed '{own}')\"; done\nPATH=${{PATH#*:}} exec curl \"$@\""
            ),
        );
        std::fs::create_dir_all(folder.join("target")).expect("it can be made");
        std::os::unix::fs::symlink(folder.join("bin"), folder.join("target/release")).expect("it can be made");
        Self { receiver, _destination: destination, _plugchat: plugchat }
    }

    /// What the pages speak of: a message, eight dead letters, a rejected callback.
    pub(super) fn fill(&self) {
        self.receiver.post(&callback("3EB0C431C26A1916E07E", "SENT", 1_632_234_600_000));
        for number in 0..8 {
            self.receiver.post(&callback(&format!("R{number}"), "SENT", 1_632_234_600_000));
        }
        self.receiver.post(r#"{"type": "ReceivedCallback"}"#);
        eventually("the letters are dead", || {
            let sinks = self.receiver.admin_get("/api/v1/sinks").json();
            sinks.as_array()?.iter().any(|sink| sink["name"] == "crm" && sink["dead"].as_u64() >= Some(8)).then_some(())
        });
    }

    fn shell(&self, script: &str) -> Command {
        let home = self.receiver.home();
        let path = std::env::var("PATH").expect("it is set");
        let mut shell = home.command(&[]);
        shell
            .env("PATH", format!("{}:{path}", home.store().with_file_name("bin").display()))
            .env("PLUGCHAT_RECEIVER_CONFIG", home.config())
            .env("PLUGCHAT_RECEIVER__SERVER__LISTEN", self.receiver.address.to_string())
            .env("PLUGCHAT_RECEIVER__ADMIN__LISTEN", self.receiver.admin.to_string());
        through(&["bash", "-euc", script], &mut shell);
        shell
    }

    /// Runs a command, after those that set variables for it, and compares what it says first with what is written.
    pub(super) fn run(&self, variables: &str, call: &Call) {
        let command = call.command.replace("/var/backups/", "");
        let said = if call.follows() {
            let mut child = self.shell(&format!("exec {command}")).spawn().expect("bash is there");
            let mut line = String::new();
            BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it can be read");
            child.kill().expect("it goes on by itself");
            child.wait().expect("it was started");
            assert_ne!(line, "", "{}: {command} ended", call.place);
            line
        } else {
            let (code, text, error) = output_of(&mut self.shell(&format!("{variables}\n{command}")));
            assert_eq!(code, 0, "{}: {command}\n{text}{error}", call.place);
            text
        };
        // curl ends well whatever it is answered.
        let is_answer = command.starts_with("curl");
        assert!(!is_answer || !call.output.is_empty(), "{}: what does it answer?", call.place);
        if let Some(pattern) = call.output.first().filter(|_| is_answer) {
            let first = said.lines().next().unwrap_or_default();
            assert!(is_like(first, pattern), "{}: {command}\nsays {said}\nand not {pattern}", call.place);
        }
    }
}

fn write_program(path: &Path, script: &str) {
    std::fs::create_dir_all(path.parent().expect("it is in one")).expect("it can be made");
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("it can be written");
    std::fs::set_permissions(path, Permissions::from_mode(0o700)).expect("it is ours");
}

/// Whether `line` is `pattern`, in which `…` stands for anything.
fn is_like(line: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().expect("there is always one")) else { return false };
    let parts: Vec<&str> = parts.collect();
    for part in &parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.is_empty() || parts.last() == Some(&"")
}
