//! The container image: what its build is sent, what it says of itself, and that it runs.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{DOCUMENTED, JSON, STORED, output_of, request, wait_until};

/// Builds with an engine where there is one that can have the base image. Else what the Dockerfile copies into the image is tried
/// in a folder of its own, with the program that is tested here.
#[test]
fn the_image_takes_callbacks_with_no_shell_and_nothing_writable_but_its_volume() {
    if let Some(engine) = ["docker", "podman"].into_iter().find(|engine| can_build(engine)) {
        takes_callbacks_in(engine);
    } else if succeeds(Command::new("unshare").args(["--mount", "--net", "--pid", "--fork", "true"])) {
        let mut script = Command::new(in_repository("scripts/image-in-chroot"));
        let (code, output, errors) = output_of(script.arg(env!("CARGO_BIN_EXE_plugchat-receiver")));
        assert_eq!(code, 0, "{output}{errors}");
        assert_eq!(output.matches("stored 1, duplicates 0").count(), DOCUMENTED.len(), "{output}{errors}");
    } else {
        // Not by a macro: what those print is seen only when a test fails.
        let said = writeln!(
            std::io::stderr(),
            "skipped: the image is not started, for want of a container engine that has {}, and of root for a chroot",
            base()
        );
        said.expect("standard error can be written");
    }
}

#[test]
fn a_build_of_the_image_is_sent_only_what_it_copies() {
    let ignored = read(".dockerignore");
    let mut patterns = ignored.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(patterns.next(), Some("*"));
    let mut sent: Vec<&str> =
        patterns.map(|line| line.strip_prefix('!').unwrap_or_else(|| panic!("{line}: not an exception"))).collect();

    let dockerfile = read("Dockerfile");
    let copies = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY "));
    let mut copied: Vec<&str> = Vec::new();
    for copy in copies.filter(|copy| !copy.starts_with("--from=")) {
        let (from, _to) = copy.rsplit_once(' ').expect("a source and a destination");
        copied.extend(from.split(' '));
    }
    sent.sort_unstable();
    copied.sort_unstable();
    assert_eq!(sent, copied);
}

#[test]
fn the_image_is_labelled_as_the_package_is_and_built_with_its_rust() {
    let dockerfile = read("Dockerfile");
    for (label, value) in [
        ("title", env!("CARGO_PKG_NAME")),
        ("description", env!("CARGO_PKG_DESCRIPTION")),
        ("version", env!("CARGO_PKG_VERSION")),
        ("licenses", env!("CARGO_PKG_LICENSE")),
    ] {
        let line = format!("org.opencontainers.image.{label}=\"{value}\"");
        assert!(dockerfile.contains(&line), "{line}");
    }
    let rust = concat!("rust:", env!("CARGO_PKG_RUST_VERSION"), ".");
    assert!(base().starts_with(rust), "{}: not {rust}", base());
}

/// Builds the image and starts it as docs/installing.md says, on a read-only root, and posts a callback to it.
fn takes_callbacks_in(engine: &str) {
    let run = |arguments: &[&str]| output_of(Command::new(engine).args(arguments));
    let expect = |arguments: &[&str]| {
        let (code, output, errors) = run(arguments);
        assert_eq!(code, 0, "{engine} {arguments:?}: {output}{errors}");
        output.trim().to_owned()
    };
    let repository = in_repository(".");
    expect(&["build", "--tag", "plugchat-receiver:test", repository.to_str().expect("its path is text")]);
    let container = Container {
        engine,
        id: expect(&["run", "--detach", "--read-only", "--publish", "127.0.0.1::8080", "plugchat-receiver:test"]),
    };
    let id = container.id.as_str();

    wait_until("it is ready", || run(&["exec", id, "/plugchat-receiver", "healthcheck"]).0 == 0);
    assert_ne!(run(&["exec", id, "/bin/sh", "-c", "true"]).0, 0, "the image has a shell");
    let address: SocketAddr = expect(&["port", id, "8080"]).parse().expect("an address");
    let url = expect(&["exec", id, "/plugchat-receiver", "url"]);
    let path = url.find("/message-status/").map(|start| &url[start..]).expect("the path of callbacks");
    let answer = request(address, "POST", path, &JSON, DOCUMENTED[0].as_bytes());
    assert_eq!((answer.status, answer.body.as_str()), (200, STORED));

    expect(&["stop", id]);
    assert_eq!(expect(&["inspect", "--format", "{{.State.ExitCode}}", id]), "0");
}

/// A container, which goes with its volume.
struct Container<'a> {
    engine: &'a str,
    id: String,
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // Nothing more can be done when it stays.
        let _ = succeeds(Command::new(self.engine).args(["rm", "--force", "--volumes", &self.id]));
    }
}

/// Whether this engine runs here, and has the base image or can fetch it.
fn can_build(engine: &str) -> bool {
    let runs = |arguments: &[&str]| succeeds(Command::new(engine).args(arguments));
    runs(&["info"]) && (runs(&["image", "inspect", &base()]) || runs(&["pull", &base()]))
}

/// Whether a program is there and exits with 0.
fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// The image that the build stage starts from.
fn base() -> String {
    let dockerfile = read("Dockerfile");
    let first = dockerfile.lines().find_map(|line| line.strip_prefix("FROM ")).expect("a base image");
    first.split(' ').next().expect("a name").to_owned()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(in_repository(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn in_repository(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}
