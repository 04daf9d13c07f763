//! What a start needs, what it makes for itself, and what it refuses to touch.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rusqlite::Connection;

use crate::support::{Home, JSON, Receiver, callback, output_of};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o777
}

/// Starts with nothing but free ports.
fn start_bare(home: Home) -> Receiver {
    home.start_with(|command| {
        command
            .env("PLUGCHAT_RECEIVER__SERVER__LISTEN", "127.0.0.1:0")
            .env("PLUGCHAT_RECEIVER__ADMIN__LISTEN", "127.0.0.1:0");
    })
}

/// The path of the URL that `url` prints.
fn callback_path(receiver: &Receiver) -> String {
    let (code, url, error) = receiver.run(&["url"]);
    assert_eq!(code, 0, "{error}");
    let path = url.trim_end().split_once("/message-status/").expect("the path").1;
    format!("/message-status/{path}")
}

#[test]
fn without_any_configuration_it_receives_and_logs_and_nobody_gets_in_without_its_secret() {
    let receiver = start_bare(Home::bare());
    let path = callback_path(&receiver);
    let post = |path: &str, id: &str| receiver.post_to(path, &JSON, callback(id, "READ", 1).as_bytes());
    assert_eq!(post(&path, "A").status, 200);
    assert_eq!(receiver.changes_on_the_log(1)[0]["sink"], "audit");
    post("/message-status", "B").problem(401);
    post("/message-status/secret", "B").problem(401);

    let secret = std::fs::read_to_string(receiver.home().store().join("secret")).expect("it is kept");
    assert_eq!((secret.trim_end().len(), path.ends_with(secret.trim_end())), (64, true), "32 random bytes");

    let receiver = start_bare(receiver.stop());
    assert_eq!(callback_path(&receiver), path, "the same after a restart");
    assert_eq!(receiver.post_to(&path, &JSON, callback("B", "READ", 1).as_bytes()).status, 200);
    let another = start_bare(Home::bare());
    assert_ne!(callback_path(&another), path);
}

#[test]
fn the_url_can_be_asked_for_before_the_first_start() {
    let home = Home::bare();
    let (code, before, _) = output_of(&mut home.command(&["url"]));
    assert_eq!(code, 0);
    let path = before.trim_end().strip_prefix("http://127.0.0.1:8080").expect("where it listens by default").to_owned();
    let receiver = start_bare(home);
    assert_eq!(callback_path(&receiver), path);
    assert_eq!(receiver.post_to(&path, &JSON, callback("A", "READ", 1).as_bytes()).status, 200);
}

#[test]
fn what_it_keeps_is_for_its_owner_alone() {
    let home = Home::bare();
    let receiver = home.start_with(|command| {
        command
            .env("PLUGCHAT_RECEIVER__SERVER__LISTEN", "127.0.0.1:0")
            .env("PLUGCHAT_RECEIVER__ADMIN__LISTEN", "127.0.0.1:0")
            .env("PLUGCHAT_RECEIVER__SINKS__AUDIT__LOG__PHONE", "hashed");
    });
    let store = receiver.home().store();
    receiver.post_to(&callback_path(&receiver), &JSON, callback("A", "READ", 1).as_bytes());
    assert_eq!(mode(&store), 0o700);
    let files: Vec<_> =
        std::fs::read_dir(&store).expect("it is there").map(|entry| entry.expect("a file").path()).collect();
    for file in &files {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    for name in ["secret", "phone-key", "lock", "store.sqlite3", "store.sqlite3-wal"] {
        assert!(files.contains(&store.join(name)), "{name}: {files:?}");
    }
}

#[test]
fn a_second_process_on_the_same_store_ends_and_names_the_first() {
    let receiver = Receiver::start("");
    let (code, _, error) = output_of(&mut receiver.home().command(&["serve"]));
    assert_eq!(code, 1);
    assert!(error.contains(&format!("in use by process {}", receiver.pid())), "{error}");
    assert!(error.contains("store.sqlite.path"), "{error}");
    assert_eq!(receiver.post(&callback("A", "READ", 1)).status, 200, "the first goes on");
    // A process that was killed holds nothing.
    let receiver = receiver.kill().start();
    assert_eq!(receiver.stored().len(), 1);
}

#[test]
fn an_address_in_use_is_told_with_the_key_to_change() {
    let receiver = Receiver::start("");
    for (variable, key, taken) in [
        ("PLUGCHAT_RECEIVER__SERVER__LISTEN", "server.listen", receiver.address),
        ("PLUGCHAT_RECEIVER__ADMIN__LISTEN", "admin.listen", receiver.admin),
    ] {
        let (code, _, error) = output_of(Home::new("").command(&["serve"]).env(variable, taken.to_string()));
        assert_eq!(code, 1);
        assert!(error.contains(&taken.to_string()) && error.contains(key), "{error}");
    }
}

/// Runs `serve` on a store that was changed while nobody used it; its error, having exited with 1.
fn refusal(home: &Home, change: impl FnOnce(&Connection)) -> String {
    let database = home.store().join("store.sqlite3");
    std::fs::create_dir_all(home.store()).expect("the folder can be made");
    let connection = Connection::open(&database).expect("it can be opened");
    change(&connection);
    connection.close().expect("it can be closed");
    let before = std::fs::read(&database).expect("it is there");
    let (code, _, error) = output_of(&mut home.command(&["serve"]));
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("store.sqlite3"), "{error}");
    assert!(before == std::fs::read(&database).expect("it is there"), "it is left as it is");
    error
}

#[test]
fn a_store_of_a_newer_version_is_left_alone() {
    let receiver = Receiver::start("");
    receiver.post(&callback("A", "READ", 1));
    let home = receiver.stop();
    let error = refusal(&home, |store| store.pragma_update(None, "user_version", 1000).expect("it can be set"));
    assert!(error.contains("version 1000") && error.contains("newer"), "{error}");
}

#[test]
fn a_database_of_another_program_is_left_alone() {
    let error = refusal(&Home::new(""), |other| other.execute_batch("CREATE TABLE precious (x)").expect("it is made"));
    assert!(error.contains("not a plugchat-receiver store"), "{error}");
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let home = Home::new("");
    std::fs::create_dir(home.store()).expect("the folder can be made");
    std::fs::write(home.store().join("store.sqlite3"), "no database at all, but a text").expect("it can be written");
    let (code, _, error) = output_of(&mut home.command(&["serve"]));
    assert_eq!(code, 1);
    assert!(error.contains("cannot open the store"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_told_with_the_key_to_change() {
    let home = Home::new("[store.sqlite]\npath = \"config.toml/data\"\n");
    let (code, _, error) = output_of(&mut home.command(&["serve"]));
    assert_eq!(code, 1);
    assert!(error.contains("config.toml/data") && error.contains("store.sqlite.path"), "{error}");
}

#[test]
fn the_store_can_be_in_another_folder() {
    let receiver = Receiver::start("[store.sqlite]\npath = \"elsewhere/deep\"\n");
    assert_eq!(receiver.post(&callback("A", "READ", 1)).status, 200);
    assert!(receiver.home().config().with_file_name("elsewhere").join("deep/store.sqlite3").exists());
    assert!(!receiver.home().store().exists());
}
