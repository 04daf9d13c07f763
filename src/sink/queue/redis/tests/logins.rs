//! Who may add to a stream, and what is said of those who may not.

use std::collections::HashMap;

use super::destination::{Destination, sink_to};
use crate::sink::conformance::{Give as _, delivery, first_failure};
use crate::sink::queue::Broker as _;
use crate::sink::{FailureKind, Sink as _};

const AWAY: FailureKind = FailureKind::Away { after: None };

/// A user that may do no more than it has to, with a password that a URL has to encode.
const USER: &str = "user canary-user on >canary/password ~changes +xadd";
const LOGIN: &str = "canary-user:canary%2Fpassword";

#[tokio::test]
async fn an_entry_has_the_change_under_names_that_stay() {
    let destination = Destination::start();
    let change = delivery("m");
    destination.sink("").give(std::slice::from_ref(&change)).await.unwrap();
    destination.sink("body = \"callback\"").give(std::slice::from_ref(&change)).await.unwrap();
    let event = serde_json::to_string(&change.change).unwrap();
    let expected = [event.as_str(), change.change.callback.get()].map(|body| {
        let id = change.change.facts.event_id();
        let fields = [("id", id.as_str()), ("status", "READ"), ("message_id", "m"), ("body", body)];
        HashMap::from(fields.map(|(name, value)| (name.to_owned(), value.to_owned())))
    });
    assert_eq!(destination.entries("changes"), expected);
}

#[tokio::test]
async fn a_stream_is_trimmed_to_about_the_length_that_is_asked_for() {
    let destination = Destination::start_with("stream-node-max-entries 10");
    let changes: Vec<_> = (0..200).map(|number| delivery(&number.to_string())).collect();
    destination.sink("max_length = 50").give(&changes).await.unwrap();
    let left = destination.message_ids("changes");
    assert!((50..=60).contains(&left.len()), "{}", left.len());
    assert_eq!(left.last().map(String::as_str), Some("199"), "the oldest go first");
}

#[tokio::test]
async fn a_password_a_user_and_a_database_are_used() {
    let destination = Destination::start_with("requirepass canary/password");
    let address = destination.server.address();
    sink_to(&format!("redis://:canary%2Fpassword@{address}/3"), "").give(&[delivery("m")]).await.unwrap();
    let client = redis::Client::open(format!("redis://:canary%2Fpassword@{address}/3")).unwrap();
    assert_eq!(redis::cmd("XLEN").arg("changes").query::<u64>(&mut client.get_connection().unwrap()).unwrap(), 1);

    let destination = Destination::start_with(USER);
    let sink = sink_to(&format!("redis://{LOGIN}@{}", destination.server.address()), "");
    sink.give(&[delivery("m")]).await.unwrap();
    assert_eq!(destination.message_ids("changes"), ["m"]);
}

#[tokio::test]
async fn a_login_that_fails_means_away_and_repeats_nothing_of_it() {
    let destination = Destination::start_with(&format!("requirepass another\n{USER}"));
    let address = destination.server.address();
    for (login, said) in [
        ("", "answers NOAUTH Authentication required. (the URL has no password)"),
        (":canary-password@", "answers WRONGPASS invalid username-password pair or user is disabled."),
        ("canary-user:canary-password@", "answers WRONGPASS invalid username-password pair or user is disabled."),
        ("canary-nobody:canary-password@", "answers WRONGPASS invalid username-password pair or user is disabled."),
        (":another@", ""),
    ] {
        let sink = sink_to(&format!("redis://{login}{address}/99"), "");
        let failure = first_failure(&sink, &[delivery("m")]).await;
        assert_eq!(failure.kind, AWAY);
        let said = if said.is_empty() { "answers ERR DB index is out of range" } else { said };
        assert!(failure.cause.starts_with(&format!("{address} {said}")), "{}", failure.cause);
        assert!(!failure.cause.contains("canary"), "{}", failure.cause);
        assert_eq!(sink.reach().await.unwrap_err(), failure.cause);
    }
}

#[tokio::test]
async fn a_login_that_is_repaired_at_the_server_is_used_without_a_restart() {
    let destination = Destination::start();
    let sink = sink_to(&format!("redis://{LOGIN}@{}", destination.server.address()), "");
    for _ in 0..2 {
        assert_eq!(first_failure(&sink, &[delivery("m")]).await.kind, AWAY);
        destination.tell("ACL SETUSER canary-user on >canary/password ~changes +xadd");
        sink.give(&[delivery("m")]).await.unwrap();
        // That closes its connections, too.
        destination.tell("ACL DELUSER canary-user");
        while sink.connection.lock().await.as_ref().is_some_and(|connection| connection.is_usable()) {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn what_a_user_may_not_do_is_refused() {
    let destination = Destination::start_with(&format!("{USER}\nuser reader on >canary/password ~* +@read"));
    let address = destination.server.address();
    for (login, stream) in [(LOGIN, "another"), ("reader:canary%2Fpassword", "changes")] {
        let sink = sink_to(&format!("redis://{login}@{address}"), &format!("stream = \"{stream}\""));
        let outcomes = sink.deliver(&["a", "b"].map(delivery)).await;
        assert_eq!(outcomes.len(), 2);
        for outcome in outcomes {
            let failure = outcome.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Refused);
            assert!(failure.cause.contains("NOPERM") && failure.cause.contains("+xadd"), "{}", failure.cause);
            assert!(!failure.cause.contains("canary"), "{}", failure.cause);
        }
        let told = sink.reach().await.unwrap_err();
        assert!(told.contains("NOPERM"), "{told}");
    }
}

#[tokio::test]
async fn reaching_the_server_says_what_it_would_do_and_adds_nothing() {
    let destination = Destination::start();
    let address = destination.server.address();
    let sink = destination.sink("");
    let synced = "; what it confirms is synced to its disk (appendfsync always)";
    assert_eq!(
        sink.reach().await.unwrap(),
        format!("{address} answers and takes entries into the stream changes, which has 0 entries{synced}")
    );
    assert_eq!(redis::cmd("EXISTS").arg("changes").query::<u64>(&mut destination.client()).unwrap(), 0);
    sink.give(&[delivery("m")]).await.unwrap();
    assert!(sink.reach().await.unwrap().contains("which has 1 entries"));
    assert_eq!(destination.message_ids("changes"), ["m"]);
    for (setting, said) in [
        ("appendfsync everysec", "synced to its disk within a second or two"),
        ("appendfsync no", "on its disk when its system likes"),
        ("appendonly no", "in its memory only"),
    ] {
        destination.tell(&format!("CONFIG SET {setting}"));
        let told = sink.reach().await.unwrap();
        assert!(told.contains(said), "{told}");
    }
    let sink = destination.sink("stream = \"changes:{status}\"");
    assert!(sink.reach().await.unwrap().contains("into the stream changes:_, which has 0 entries"));
    destination.tell("SET changes:_ text");
    assert!(sink.reach().await.unwrap_err().contains("the key is there, and is no stream"));
    destination.tell("CONFIG SET maxmemory 1");
    assert!(sink.reach().await.unwrap_err().contains("OOM"));
    destination.tell("CONFIG SET maxmemory 0");

    // A user who may do nothing else is told no more.
    destination.tell(&format!("ACL SETUSER {}", USER.strip_prefix("user ").unwrap()));
    let sink = sink_to(&format!("redis://{LOGIN}@{address}"), "");
    assert_eq!(sink.reach().await.unwrap(), format!("{address} answers and takes entries into the stream changes"));
}
