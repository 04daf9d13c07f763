//! The store is copied while it is in use, and put back.

use std::collections::BTreeSet;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rusqlite::Connection;
use serde_json::Value;

use crate::inside::{Destination, Inside};
use crate::support::{Home, JSON, Receiver, STORED, after, callback, eventually, output_of, path, request};

const MOMENT: i64 = 1_632_234_645_000;

/// Where backups go.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder can be made"))
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("copy.sqlite3")
    }

    /// The names of what is there.
    fn files(&self) -> Vec<String> {
        files(self.0.path())
    }
}

fn files(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).expect("it is there").map(|file| file.expect("it can be listed").file_name());
    let mut names: Vec<_> = files.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths here are text")
}

/// As docs/installing.md has it: into a folder of its own.
fn put_back(place: &Place, extra: &str) -> Home {
    let home = Home::new(extra);
    std::fs::DirBuilder::new().mode(0o700).create(home.store()).expect("it can be made");
    for (from, to) in [("", "store.sqlite3"), (".secret", "secret"), (".phone-key", "phone-key")] {
        let from = PathBuf::from(format!("{}{from}", place.file().display()));
        if from.exists() {
            std::fs::copy(from, home.store().join(to)).expect("it can be copied");
        }
    }
    home
}

fn assert_intact(database: &Path) {
    let database = Connection::open(database).expect("it can be opened");
    let verdict: String =
        database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it can be checked");
    assert_eq!(verdict, "ok");
}

fn message_ids(changes: &[Value]) -> BTreeSet<String> {
    changes.iter().map(|change| change["message_id"].as_str().expect("text").to_owned()).collect()
}

/// A callback that takes some room, so that there are many pages to copy.
fn large_callback(message_id: &str) -> String {
    let plain = callback(message_id, "SENT", MOMENT);
    format!("{},\"note\":\"{}\"}}", plain.strip_suffix('}').expect("an object"), "x".repeat(40_000))
}

#[test]
fn what_was_acknowledged_before_it_began_is_in_a_copy_made_under_load() {
    let receiver = Receiver::start("[sinks]\n");
    let place = Place::new();
    for number in 0..300 {
        assert_eq!(receiver.post(&large_callback(&format!("early-{number}"))).status, 200);
    }
    let (acknowledged, over, under_load) = (Mutex::new(BTreeSet::new()), AtomicBool::new(false), AtomicUsize::new(0));
    let before = std::thread::scope(|scope| {
        for caller in 0..3 {
            let (acknowledged, over, under_load) = (&acknowledged, &over, &under_load);
            let address = receiver.address;
            scope.spawn(move || {
                for number in 0.. {
                    let message_id = format!("load-{caller}-{number}");
                    let answer = request(address, "POST", &path(), &JSON, large_callback(&message_id).as_bytes());
                    assert_eq!(answer.status, 200);
                    acknowledged.lock().expect("nobody panics with it").insert(message_id);
                    under_load.fetch_add(1, Ordering::Relaxed);
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        eventually("there is load", || (under_load.load(Ordering::Relaxed) > 10).then_some(()));
        let before = acknowledged.lock().expect("nobody panics with it").clone();
        let (code, said, error) = receiver.run(&["backup", text(&place.file())]);
        over.store(true, Ordering::Relaxed);
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(said.starts_with(&format!("{}: ", place.file().display())), "{said}");
        before
    });
    assert_eq!(place.files(), ["copy.sqlite3"], "nothing else is left beside it");
    let mode = std::fs::metadata(place.file()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let receiver = put_back(&place, "[sinks]\n").start();
    let stored = message_ids(&receiver.stored());
    assert!(before.is_subset(&stored), "{:?}", before.difference(&stored));
    assert_eq!(stored.iter().filter(|id| id.starts_with("early")).count(), 300);
    let known = receiver.post(&large_callback("early-0"));
    assert_eq!(known.body, r#"{"stored": 0, "duplicates": 1}"#);
    assert_eq!(receiver.post(&callback("after", "SENT", MOMENT)).body, STORED);
    assert_intact(&receiver.stop().store().join("store.sqlite3"));
}

#[test]
fn a_sink_goes_on_from_its_place_when_a_backup_is_put_back() {
    let destination = Destination::new(|_| None);
    let inside = Inside::start(&destination);
    for id in ["A", "B"] {
        inside.post(&callback(id, "SENT", MOMENT));
    }
    eventually("they are delivered", || (inside.standing()["lag"] == 0).then_some(()));
    inside.run(&["sinks", "pause", "own"]);
    for id in ["C", "D"] {
        inside.post(&callback(id, "SENT", MOMENT));
    }
    let place = Place::new();
    assert_eq!(inside.run(&["backup", text(&place.file())]).0, 0);
    inside.post(&callback("E", "SENT", MOMENT));
    drop(inside);

    let destination = Destination::new(|_| None);
    let inside = Inside::start_in(put_back(&place, ""), &destination);
    eventually("it is paused as before", || (inside.standing()["paused"] == "operator").then_some(()));
    assert_eq!(inside.standing()["lag"], 2);
    inside.run(&["sinks", "resume", "own"]);
    eventually("the rest is delivered", || (inside.standing()["lag"] == 0).then_some(()));
    assert_eq!(destination.messages(), ["C", "D"]);
}

#[test]
fn the_keys_that_were_made_are_put_beside_it_and_the_url_stays_the_same() {
    let keyed = "secrets = []\n[sinks.audit.log]\nphone = \"hashed\"\n";
    let receiver = Receiver::start(keyed);
    let secret = std::fs::read_to_string(receiver.home().store().join("secret")).expect("it was made");
    let to = format!("/message-status/{}", secret.trim());
    assert_eq!(receiver.post_to(&to, &JSON, callback("A", "SENT", MOMENT).as_bytes()).status, 200);
    let hashed = receiver.changes_on_the_log(1)[0]["phone"].clone();
    let place = Place::new();
    let (code, said, _) = receiver.run(&["backup", text(&place.file())]);
    assert_eq!((code, said.lines().count()), (0, 3), "{said}");
    assert!(!said.contains(secret.trim()), "{said}");
    assert_eq!(place.files(), ["copy.sqlite3", "copy.sqlite3.phone-key", "copy.sqlite3.secret"]);
    for file in place.files() {
        let mode = std::fs::metadata(place.0.path().join(&file)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    drop(receiver);

    let receiver = put_back(&place, keyed).start();
    assert_eq!(receiver.post_to(&to, &JSON, callback("B", "SENT", MOMENT).as_bytes()).body, STORED);
    receiver
        .wait_for_line("the same phone is logged alike", |line| line["message_id"] == "B" && line["phone"] == hashed);
}

#[test]
fn a_store_whose_receiver_was_killed_is_copied_whole() {
    let receiver = Receiver::start("[sinks]\n");
    for number in 0..20 {
        assert_eq!(receiver.post(&callback(&format!("m{number}"), "SENT", MOMENT)).status, 200);
    }
    let home = receiver.kill();
    let place = Place::new();
    let (code, _, error) = output_of(&mut home.command(&["backup", text(&place.file())]));
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(put_back(&place, "[sinks]\n").start().stored().len(), 20);
    assert_eq!(home.start().stored().len(), 20, "and the store itself is as it was");
}

#[test]
fn nothing_is_overwritten_and_nothing_is_put_where_the_store_would_take_it_for_its_own() {
    let receiver = Receiver::start("secrets = []\n[sinks]\n");
    let place = Place::new();
    let copy = text(&place.file()).to_owned();
    std::fs::write(place.file(), "something else").expect("it can be written");
    let (code, said, error) = receiver.run(&["backup", &copy]);
    assert_eq!((code, said.as_str()), (2, ""));
    assert!(error.contains("is there already"), "{error}");
    assert_eq!(std::fs::read(place.file()).expect("it is there"), b"something else");
    std::fs::rename(place.file(), place.0.path().join("copy.sqlite3.secret")).expect("it can be renamed");
    assert_eq!(receiver.run(&["backup", &copy]).0, 2, "what would be put beside it is there already");
    assert_eq!(place.files(), ["copy.sqlite3.secret"]);

    let before = files(&receiver.home().store());
    for name in ["store.sqlite3", "store.sqlite3-journal", "lock", "phone-key"] {
        let (code, _, error) = receiver.run(&["backup", &format!("data/{name}")]);
        assert_eq!(code, 2, "{name}");
        assert!(error.contains("name another file"), "{error}");
    }
    assert_eq!(files(&receiver.home().store()), before);
    assert_eq!(receiver.run(&["backup", "data/copy.sqlite3"]).0, 0, "a container may have no other place");
}

#[test]
fn a_copy_that_fails_leaves_nothing_behind() {
    let receiver = Receiver::start("[sinks]\n");
    for number in 0..40 {
        assert_eq!(receiver.post(&large_callback(&format!("m{number}"))).status, 200);
    }
    let place = Place::new();
    let mut command = receiver.home().command(&["backup", text(&place.file())]);
    // As on a full disk: no file may be larger than 512 KiB.
    after("trap '' XFSZ; ulimit -f 1024", &mut command);
    let (code, said, error) = output_of(&mut command);
    assert_eq!((code, said.as_str()), (1, ""));
    assert!(error.contains("cannot write"), "{error}");
    assert_eq!(place.files(), [""; 0]);

    let (code, _, error) = receiver.run(&["backup", "missing/copy.sqlite3"]);
    assert!(code == 1 && error.contains("cannot make missing/copy.sqlite3"), "{error}");
    let (code, _, error) = output_of(&mut Home::new("").command(&["backup", text(&place.file())]));
    assert!(code == 1 && error.contains("there is no store in data"), "{error}");
    assert_eq!(place.files(), [""; 0]);
}
