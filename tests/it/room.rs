//! What happens when there is no room: at the store's cap, on a full disk, and what goes to make room.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Answer, Home, PATIENCE, Receiver, STORED, callback, wait_until};

const MOMENT: i64 = 1_632_234_645_000;

/// A callback that takes about this many bytes of the store: unknown fields are kept.
fn large_callback(message_id: &str, bytes: usize) -> String {
    let plain = callback(message_id, "SENT", MOMENT);
    format!("{},\"note\":\"{}\"}}", plain.strip_suffix('}').expect("an object"), "x".repeat(bytes))
}

/// Posts callbacks of this size until one is refused; the messages that were taken, and the refusal.
fn fill(receiver: &Receiver, bytes: usize) -> (BTreeSet<String>, Answer) {
    let mut taken = BTreeSet::new();
    loop {
        let message_id = format!("message-{}", taken.len());
        let answer = receiver.post(&large_callback(&message_id, bytes));
        if answer.status != 200 {
            return (taken, answer);
        }
        taken.insert(message_id);
        assert!(taken.len() < 10_000, "it never fills up");
    }
}

fn assert_full(answer: &Answer) {
    assert_eq!(answer.problem(503)["detail"], "the store is full");
}

fn store_is_ready(receiver: &Receiver) -> bool {
    let ready = receiver.admin_get("/readyz");
    assert_eq!(ready.status == 200, ready.json()["ready"] == true, "{ready:?}");
    ready.json()["checks"]["store"]["ok"] == true
}

fn message_ids(changes: &[Value]) -> BTreeSet<String> {
    changes.iter().map(|change| change["message_id"].as_str().expect("a string").to_owned()).collect()
}

fn everything_is_delivered(receiver: &Receiver) -> bool {
    receiver.admin_get("/api/v1/sinks").json()[0]["lag"] == 0
}

/// The database as anybody's tool would open it.
fn open(store: &Path) -> rusqlite::Connection {
    let database = rusqlite::Connection::open(store.join("store.sqlite3")).expect("it can be opened");
    // The receiver may be at it.
    database.busy_timeout(PATIENCE).expect("a time-out can be set");
    database
}

fn assert_says_that_the_disk_is_full(output: &str) {
    assert!(output.contains("No space left on device") || output.contains("disk is full"), "{output}");
}

/// Checks a copy: the disk may be full, and opening a database writes.
fn assert_database_is_intact(store: &Path) {
    let copy = tempfile::tempdir().expect("a temporary folder can be made");
    for file in ["store.sqlite3", "store.sqlite3-wal"] {
        match std::fs::copy(store.join(file), copy.path().join(file)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{file}: {error}"),
            _ => {}
        }
    }
    let database = open(copy.path());
    let verdict: String =
        database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it can be checked");
    assert_eq!(verdict, "ok");
}

#[test]
fn a_store_full_of_undelivered_changes_refuses_until_they_are_delivered() {
    let receiver = Receiver::start("[store.sqlite]\nmax_size = \"2MiB\"");
    let fillers = receiver.block_the_log();
    let (taken, refusal) = fill(&receiver, 20_000);
    assert!(taken.len() > 20, "{} callbacks of 20 kB fill 2 MiB", taken.len());
    assert_full(&refusal);
    assert!(!store_is_ready(&receiver));
    // What adds nothing to the log but needs room of its own is refused as well.
    assert_full(&receiver.post(r#"{"type": "ReceivedCallback"}"#));
    let stored = receiver.stored();
    assert_eq!(stored.len(), fillers + taken.len());
    assert!(taken.is_subset(&message_ids(&stored)));

    receiver.go_on_reading();
    receiver.wait_for_output("reached its cap");
    wait_until("there is room", || receiver.post(&callback("after", "SENT", MOMENT)).status == 200);
    wait_until("it is ready", || store_is_ready(&receiver));
    wait_until("everything is delivered", || everything_is_delivered(&receiver));
    let ended = receiver.end("TERM");
    assert!(ended.output.contains("there is room in the store again"), "{}", ended.output);
    let logged = message_ids(&ended.changes_on_the_log());
    assert!(taken.is_subset(&logged) && logged.contains("after"));
    assert_eq!(logged.len(), fillers + taken.len() + 1);
    assert_database_is_intact(&ended.home.store());
}

#[test]
fn a_full_store_is_still_full_after_a_kill_and_has_lost_nothing() {
    let receiver = Receiver::start("[store.sqlite]\nmax_size = \"2MiB\"");
    receiver.block_the_log();
    let (taken, _) = fill(&receiver, 20_000);
    let receiver = receiver.kill().start();
    wait_until("everything is delivered", || everything_is_delivered(&receiver));
    wait_until("there is room", || receiver.post(&callback("after", "SENT", MOMENT)).status == 200);
    assert!(taken.is_subset(&message_ids(&receiver.end("TERM").changes_on_the_log())));
}

#[test]
fn a_store_at_its_cap_lets_the_oldest_delivered_changes_go_and_takes_more() {
    let receiver = Receiver::start("[store.sqlite]\nmax_size = \"2MiB\"");
    let all = 400;
    for n in 0..all {
        // It may take a moment to make room, and says so.
        wait_until("it is taken", || {
            let answer = receiver.post(&large_callback(&format!("message-{n}"), 20_000));
            assert!([200, 503].contains(&answer.status), "{answer:?}");
            answer.status == 200
        });
    }
    wait_until("everything is delivered", || everything_is_delivered(&receiver));
    let sizes: u64 = ["store.sqlite3", "store.sqlite3-wal"]
        .map(|file| receiver.home().store().join(file).metadata().expect("it is there").len())
        .iter()
        .sum();
    // Four times as much came in as may be kept. The write-ahead log is SQLite's, about 4 MiB.
    assert!(sizes < 8 << 20, "the files have {sizes} bytes");
    let kept: Vec<i64> = receiver.stored().iter().map(|change| change["seq"].as_i64().expect("a number")).collect();
    assert!(kept.len() < all, "nothing went");
    let newest: Vec<i64> = (1..=all as i64).skip(all - kept.len()).collect();
    assert_eq!(kept, newest, "what is kept are the newest");
    let ended = receiver.end("TERM");
    assert_eq!(message_ids(&ended.changes_on_the_log()).len(), all);
    assert_database_is_intact(&ended.home.store());
}

#[test]
fn what_is_older_than_the_retention_goes_and_no_number_is_given_twice() {
    let receiver = Receiver::start("[store.sqlite]\nretention = \"1s\"");
    for n in 0..3 {
        assert_eq!(receiver.post(&callback(&format!("message-{n}"), "SENT", MOMENT)).status, 200);
    }
    wait_until("all of it is gone", || receiver.stored().is_empty());
    let receiver = receiver.stop().start();
    assert_eq!(receiver.post(&callback("message-0", "SENT", MOMENT)).body, STORED);
    let line = receiver.changes_on_the_log(1).remove(0);
    assert_eq!((&line["message_id"], &line["transition"]), (&Value::from("message-0"), &Value::from("advance")));
    wait_until("that is gone, too", || receiver.stored().is_empty());
    let ended = receiver.end("TERM");
    let database = open(&ended.home.store());
    let rows = |table: &str| -> i64 {
        database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("it can be read")
    };
    assert_eq!((rows("change"), rows("message")), (0, 0));
    let last: i64 = database.query_row("SELECT seq FROM last_seq", [], |row| row.get(0)).expect("it can be read");
    assert_eq!(last, 4);
}

#[test]
fn undelivered_changes_stay_however_old_and_duplicates_are_known_as_long_as_their_message() {
    let receiver = Receiver::start("[store.sqlite]\nretention = \"1d\"");
    let (first, other) = (callback("first", "SENT", MOMENT), callback("other", "SENT", MOMENT));
    for body in [&first, &other, &callback("first", "RECEIVED", MOMENT)] {
        assert_eq!(receiver.post(body).status, 200);
    }
    receiver.changes_on_the_log(3);
    let fillers = receiver.block_the_log();

    // All but the third come to be two days old.
    let database = open(&receiver.home().store());
    database
        .execute("UPDATE change SET received_at = received_at - 2 * 86400000 WHERE seq <> 3", [])
        .expect("it is there");
    wait_until("the old delivered ones go", || !message_ids(&receiver.stored()).contains("other"));
    let kept = receiver.stored();
    assert_eq!(kept.len(), 1 + fillers);
    assert_eq!((&kept[0]["message_id"], &kept[0]["status"]), (&Value::from("first"), &Value::from("RECEIVED")));
    // Of `first` something is kept, so all that was seen of it is known; `other` is forgotten.
    assert_eq!(receiver.post(&first).body, r#"{"stored": 0, "duplicates": 1}"#);
    assert_eq!(receiver.post(&other).body, STORED);

    // What is young keeps those after it, so that comes to be old, too.
    database
        .execute("UPDATE change SET received_at = received_at - 2 * 86400000 WHERE seq = 3", [])
        .expect("it is there");
    receiver.go_on_reading();
    wait_until("the others go when they are delivered", || receiver.stored().len() == 1);
    assert_eq!(message_ids(&receiver.stored()), BTreeSet::from(["other".to_owned()]));
    let ended = receiver.end("TERM");
    assert_eq!(ended.changes_on_the_log().len(), 3 + fillers + 1);
}

/// A file system of its own for the store, which can be filled without harm to others.
struct Disk {
    folder: TempDir,
}

/// Says to the test that it runs in a name space in which it may mount.
const IN_NAME_SPACE: &str = "TEST_IN_NAME_SPACE";

/// Runs a test on a disk of its own. Mounting takes root's rights or a name space; `name` is the test's own, to run it again in one.
fn on_a_disk(name: &str, mebibytes: u32, test: impl FnOnce(&Disk)) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let size = format!("size={mebibytes}m");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
    if mounted.as_ref().is_ok_and(|output| output.status.success()) {
        test(&Disk { folder });
        return;
    }
    assert!(std::env::var_os(IN_NAME_SPACE).is_none(), "cannot mount in a name space: {mounted:?}");
    let may_have_one =
        Command::new("unshare").args(["-rm", "true"]).output().is_ok_and(|output| output.status.success());
    if !may_have_one {
        assert!(std::env::var_os("CI").is_none(), "cannot mount, and cannot make a name space: {mounted:?}");
        eprintln!("NOT TESTED: {name}: this user may neither mount nor make a name space; run it as root");
        return;
    }
    let again = Command::new("unshare")
        .arg("-rm")
        .arg(std::env::current_exe().expect("a test knows its program"))
        .args(["--exact", name, "--nocapture"])
        .env(IN_NAME_SPACE, "yes")
        .output()
        .expect("unshare can be run");
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && said.contains("1 passed"), "{said}\n{}", String::from_utf8_lossy(&again.stderr));
}

impl Disk {
    /// Where a store may be.
    fn store(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn free_bytes(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.folder.path()).expect("it is mounted");
        disk.f_bavail * disk.f_frsize
    }

    /// Takes up all of it but this much; by another's file.
    fn take_all_but(&self, bytes: u64) {
        let mut file = File::options().create(true).append(true).open(self.foreign()).expect("it can be made");
        while self.free_bytes() > bytes {
            let next = usize::try_from((self.free_bytes() - bytes).min(1 << 16)).expect("it is small");
            if file.write_all(&vec![0; next]).is_err() {
                // Somebody else was faster: it is full.
                return;
            }
        }
    }

    /// Deletes what [`take_all_but`](Self::take_all_but) made.
    fn give_back(&self) {
        std::fs::remove_file(self.foreign()).expect("it is there");
    }

    fn foreign(&self) -> PathBuf {
        self.folder.path().join("foreign")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, because a receiver may still run; when it fails, the folder that is left behind says so.
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

fn home_on(disk: &Disk, server: &str, store: &str) -> Home {
    Home::new(&format!("{server}\n[store.sqlite]\npath = \"{}\"\n{store}", disk.store().display()))
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_is_done_with_when_there_is_room() {
    on_a_disk("room::a_full_disk_refuses_loses_nothing_and_is_done_with_when_there_is_room", 16, |disk| {
        let receiver = home_on(disk, "", "").start();
        let fillers = receiver.block_the_log();
        let (taken, refusal) = fill(&receiver, 60_000);
        assert_full(&refusal);
        assert!(!store_is_ready(&receiver));
        assert!(disk.free_bytes() > 0, "it stops before the last byte");

        // Somebody else takes the rest.
        disk.take_all_but(0);
        assert_eq!(receiver.post(&callback("too-late", "SENT", MOMENT)).status, 503);
        assert!(!store_is_ready(&receiver));
        let stored = receiver.stored();
        assert_eq!(stored.len(), fillers + taken.len());
        assert!(taken.is_subset(&message_ids(&stored)));

        let mut home = receiver.kill();
        assert_database_is_intact(&disk.store());
        disk.take_all_but(0);
        home = match home.try_start() {
            Ok(receiver) => {
                assert_eq!(receiver.post(&callback("too-late", "SENT", MOMENT)).status, 503);
                receiver.kill()
            }
            Err(ended) => {
                assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
                assert_says_that_the_disk_is_full(&ended.output);
                ended.home
            }
        };
        assert_database_is_intact(&disk.store());

        disk.give_back();
        let receiver = home.start();
        wait_until("everything is delivered", || everything_is_delivered(&receiver));
        wait_until("there is room", || receiver.post(&callback("after", "SENT", MOMENT)).status == 200);
        wait_until("it is ready", || store_is_ready(&receiver));
        receiver.wait_for_output("\"after\"");
        let ended = receiver.end("TERM");
        assert_eq!(ended.status.code(), Some(0));
        let logged = message_ids(&ended.changes_on_the_log());
        assert!(taken.is_subset(&logged), "acknowledged and never delivered");
        assert_database_is_intact(&disk.store());
    });
}

#[test]
fn a_receiver_goes_on_by_itself_when_a_full_disk_has_room_again() {
    on_a_disk("room::a_receiver_goes_on_by_itself_when_a_full_disk_has_room_again", 16, |disk| {
        let receiver = home_on(disk, "", "").start();
        assert_eq!(receiver.post(&callback("before", "SENT", MOMENT)).status, 200);
        disk.take_all_but(0);
        wait_until("it is full", || receiver.post(&callback("during", "SENT", MOMENT)).status == 503);
        assert!(!store_is_ready(&receiver));
        disk.give_back();
        wait_until("it goes on", || receiver.post(&callback("after", "SENT", MOMENT)).status == 200);
        assert!(store_is_ready(&receiver));
        let stored = message_ids(&receiver.stored());
        assert!(stored.contains("before") && stored.contains("after"), "{stored:?}");
        receiver.stop();
        assert_database_is_intact(&disk.store());
    });
}

#[test]
fn a_store_does_not_start_on_a_full_disk_without_saying_why() {
    on_a_disk("room::a_store_does_not_start_on_a_full_disk_without_saying_why", 16, |disk| {
        std::fs::create_dir(disk.store()).expect("there is room for that");
        disk.take_all_but(0);
        let Err(ended) = home_on(disk, "", "").try_start() else { panic!("there is no room for a new store") };
        assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
        assert_says_that_the_disk_is_full(&ended.output);
        disk.give_back();
        let receiver = ended.home.start();
        assert_eq!(receiver.post(&callback("after", "SENT", MOMENT)).status, 200);
        receiver.stop();
    });
}

#[test]
fn a_callback_that_is_larger_than_what_is_left_of_a_disk_is_refused_and_smaller_ones_are_not() {
    let name = "room::a_callback_that_is_larger_than_what_is_left_of_a_disk_is_refused_and_smaller_ones_are_not";
    on_a_disk(name, 16, |disk| {
        let receiver = home_on(disk, "[server.limits]\nbody = \"8MiB\"", "").start();
        assert_eq!(receiver.post(&callback("before", "SENT", MOMENT)).status, 200);
        // An eighth of the disk is left alone: 2 MiB.
        disk.take_all_but(3 << 20);
        assert_full(&receiver.post(&large_callback("too-large", 4 << 20)));
        assert_eq!(receiver.post(&callback("after", "SENT", MOMENT)).status, 200);
        assert!(store_is_ready(&receiver));
        assert_eq!(message_ids(&receiver.stored()), BTreeSet::from(["before".to_owned(), "after".to_owned()]));
        receiver.stop();
        assert_database_is_intact(&disk.store());
    });
}

#[test]
fn a_commit_that_finds_no_room_takes_nothing_with_it_and_the_next_may_work() {
    let name = "room::a_commit_that_finds_no_room_takes_nothing_with_it_and_the_next_may_work";
    on_a_disk(name, 32, |disk| {
        let receiver = home_on(disk, "", "retention = \"1d\"").start();
        for n in 0..300 {
            assert_eq!(receiver.post(&large_callback(&format!("early-{n}"), 60_000)).status, 200);
        }
        wait_until("everything is delivered", || everything_is_delivered(&receiver));
        let mut database = open(&disk.store());
        database.execute("UPDATE change SET received_at = received_at - 2 * 86400000", []).expect("it is there");
        wait_until("it is gone", || receiver.stored().is_empty());

        // Now there is room in the file and hardly any around it, and a reader that keeps the write-ahead log from beginning
        // anew: it has to grow, and soon can't.
        wait_until("the write-ahead log is empty", || {
            database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).is_ok_and(|busy: i64| busy == 0)
        });
        disk.take_all_but(1 << 20);
        let reading = database.transaction().expect("it can be read");
        reading.query_row("SELECT count(*) FROM change", [], |row| row.get::<_, i64>(0)).expect("it can be read");
        let (taken, refusal) = fill(&receiver, 20_000);
        assert!(!taken.is_empty());
        assert_full(&refusal);
        receiver.wait_for_output("cannot commit");
        assert_eq!(message_ids(&receiver.stored()), taken);

        drop(reading);
        wait_until("it is taken", || receiver.post(&callback("after", "SENT", MOMENT)).status == 200);
        wait_until("it is ready", || store_is_ready(&receiver));
        let ended = receiver.end("TERM");
        assert!(ended.output.contains("the store commits again"), "{}", ended.output);
        assert!(taken.is_subset(&message_ids(&ended.changes_on_the_log())));
        assert_database_is_intact(&disk.store());
    });
}

#[test]
fn a_reader_that_makes_the_write_ahead_log_grow_costs_room_only_as_long_as_it_reads() {
    let name = "room::a_reader_that_makes_the_write_ahead_log_grow_costs_room_only_as_long_as_it_reads";
    on_a_disk(name, 32, |disk| {
        let receiver = home_on(disk, "", "").start();
        receiver.block_the_log();
        let mut database = open(&disk.store());
        let reading = database.transaction().expect("it can be read");
        reading.query_row("SELECT count(*) FROM change", [], |row| row.get::<_, i64>(0)).expect("it can be read");
        let (taken, refusal) = fill(&receiver, 60_000);
        assert_full(&refusal);
        drop(reading);
        // Nothing is delivered, so nothing can go: the room is the log's.
        wait_until("there is room", || receiver.post(&large_callback("after", 60_000)).status == 200);
        assert!(taken.is_subset(&message_ids(&receiver.stored())));
        receiver.kill();
        assert_database_is_intact(&disk.store());
    });
}

#[test]
fn a_disk_smaller_than_the_cap_is_used_again_and_again() {
    on_a_disk("room::a_disk_smaller_than_the_cap_is_used_again_and_again", 16, |disk| {
        let receiver = home_on(disk, "", "").start();
        for n in 0..800 {
            wait_until("it is taken", || {
                let answer = receiver.post(&large_callback(&format!("message-{n}"), 60_000));
                assert!([200, 503].contains(&answer.status), "{answer:?}");
                answer.status == 200
            });
        }
        wait_until("everything is delivered", || everything_is_delivered(&receiver));
        wait_until("it is ready", || store_is_ready(&receiver));
        let ended = receiver.end("TERM");
        assert_eq!(message_ids(&ended.changes_on_the_log()).len(), 800);
        assert_database_is_intact(&disk.store());
    });
}

#[test]
fn what_takes_more_room_to_overwrite_than_is_left_goes_all_the_same() {
    let name = "room::what_takes_more_room_to_overwrite_than_is_left_goes_all_the_same";
    on_a_disk(name, 32, |disk| {
        let receiver = home_on(disk, "[server.limits]\nbody = \"16MiB\"", "").start();
        assert_eq!(receiver.post(&large_callback("large", 10 << 20)).status, 200);
        wait_until("it is delivered", || everything_is_delivered(&receiver));
        let database = open(&disk.store());
        wait_until("the write-ahead log is empty", || {
            database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).is_ok_and(|busy: i64| busy == 0)
        });
        disk.take_all_but(1 << 20);
        wait_until("it is gone", || receiver.stored().is_empty());
        disk.give_back();
        wait_until("it goes on", || receiver.post(&large_callback("after", 1 << 20)).status == 200);
        receiver.stop();
        assert_database_is_intact(&disk.store());
    });
}
