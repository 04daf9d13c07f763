//! What the server's errors mean, as a table and on a server that is made to answer with them.

use serde_json::value::RawValue;

use super::destination::{Destination, sink_to};
use crate::sink::conformance::{Give as _, delivery, first_failure};
use crate::sink::queue::redis::{LARGE, answer};
use crate::sink::{Delivery, FailureKind, Sink as _};
use crate::status::Status;

const AWAY: FailureKind = FailureKind::Away { after: None };
const AGAIN: FailureKind = FailureKind::TryAgain { after: None };

#[test]
fn each_error_means_what_the_readme_says() {
    let sink = sink_to("redis://bob:canary-password@redis.example.com/", "");
    for (code, details, kind, said) in [
        ("OOM", "command not allowed when used memory > 'maxmemory'.", AWAY, "OOM command not allowed"),
        ("MISCONF", "Errors writing to the AOF file: No space left on device", AWAY, "No space left on device"),
        ("READONLY", "You can't write against a read only replica.", AWAY, "the URL should lead to the master"),
        ("LOADING", "Redis is loading the dataset in memory", AWAY, "LOADING Redis is loading"),
        ("MASTERDOWN", "Link with MASTER is down", AWAY, "MASTERDOWN Link"),
        ("CLUSTERDOWN", "Hash slot not served", AWAY, "CLUSTERDOWN Hash"),
        ("TRYAGAIN", "Multiple keys request during rehashing of slot", AWAY, "TRYAGAIN"),
        ("BUSY", "Redis is busy running a script.", AWAY, "BUSY Redis is busy"),
        ("NOREPLICAS", "Not enough good replicas to write.", AWAY, "NOREPLICAS Not enough"),
        ("MOVED", "3999 127.0.0.1:6381", AWAY, "answers MOVED: it belongs to a Redis Cluster, which is not supported"),
        ("ASK", "3999 127.0.0.1:6381", AWAY, "answers ASK: it belongs to a Redis Cluster, which is not supported"),
        ("NOAUTH", "Authentication required.", AWAY, "the URL has no password"),
        ("WRONGPASS", "invalid username-password pair or user is disabled.", AWAY, "user or password is wrong"),
        ("DENIED", "Redis is running in protected mode", AWAY, "DENIED Redis is running in protected mode"),
        ("ERR", "max number of clients reached", AWAY, "ERR max number of clients reached"),
        ("ERR", "Protocol error: unauthenticated bulk length", AWAY, "the URL has no password"),
        ("ERR", "Protocol error: invalid bulk length", FailureKind::Refused, "larger than its proto-max-bulk-len"),
        ("WRONGTYPE", "Operation against a key", FailureKind::Refused, "the key is there, and is no stream"),
        ("NOPERM", "User bob has no permissions to run the 'xadd' command", FailureKind::Refused, "User … has no"),
        ("ERR", "unknown command 'XADD', with args beginning with: 'canary-password'", AGAIN, "beginning with: '…'"),
        ("SOMETHING", "about 5544999999999", AGAIN, "redis.example.com answers SOMETHING about 55449****9999"),
    ] {
        let error = redis::make_extension_error(code.into(), Some(details.into()));
        let (_, error) = error.into_server_errors().unwrap()[0].clone();
        let failure = answer::failure(&sink.server, &error);
        assert_eq!(failure.kind, kind, "{code} {details}");
        assert!(failure.cause.contains(said), "{} should have {said}", failure.cause);
        assert!(!failure.cause.contains("canary") && !failure.cause.contains("bob"), "{}", failure.cause);
    }
}

/// What the sink says while the server is in that state, and that it goes on afterwards.
async fn away_between(destination: &Destination, broken: &[&str], repaired: &[&str]) -> String {
    let sink = destination.sink("");
    sink.give(&[delivery("before")]).await.unwrap();
    broken.iter().for_each(|command| destination.tell(command));
    let changes = [delivery("a"), delivery("b")];
    let failure = first_failure(&sink, &changes).await;
    assert_eq!(failure.kind, AWAY, "{failure:?}");
    let anew = first_failure(&sink, &changes).await;
    assert_eq!(anew.kind, AWAY, "{anew:?}");
    repaired.iter().for_each(|command| destination.tell(command));
    sink.give(&changes).await.unwrap();
    assert_eq!(destination.message_ids("changes"), ["before", "a", "b"]);
    anew.cause
}

#[tokio::test]
async fn a_server_that_takes_nothing_now_is_away_and_gets_everything_when_it_does() {
    for (broken, repaired, said) in [
        (&["CONFIG SET maxmemory 1"][..], &["CONFIG SET maxmemory 0"][..], "OOM command not allowed"),
        (
            &["CONFIG SET min-replicas-to-write 1"],
            &["CONFIG SET min-replicas-to-write 0"],
            "NOREPLICAS Not enough good replicas",
        ),
        (&["REPLICAOF 127.0.0.1 1"], &["REPLICAOF NO ONE"], "READONLY You can't write against a read only replica."),
        (
            &["CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1"],
            &["REPLICAOF NO ONE"],
            "MASTERDOWN Link with MASTER is down",
        ),
    ] {
        let destination = Destination::start();
        let cause = away_between(&destination, broken, repaired).await;
        let said = format!("{} answers {said}", destination.server.address());
        assert!(cause.starts_with(&said), "{cause} should begin with {said}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_write_its_snapshots_is_away_until_it_can() {
    let destination = Destination::start_with("save 3600 1");
    let status = |expected: &str| {
        let info = || redis::cmd("INFO").arg("persistence").query::<String>(&mut destination.client()).unwrap();
        while !info().contains(&format!("rdb_last_bgsave_status:{expected}\r\n")) {}
    };
    let sink = destination.sink("");
    sink.give(&[delivery("before")]).await.unwrap();
    // A file can't take a folder's place.
    let in_the_way = destination.server.folder().join("dump.rdb");
    std::fs::create_dir(&in_the_way).unwrap();
    destination.tell("BGSAVE");
    status("err");
    let failure = first_failure(&sink, &[delivery("a")]).await;
    assert_eq!(failure.kind, AWAY);
    assert!(failure.cause.contains("MISCONF Redis is configured to save RDB snapshots"), "{}", failure.cause);
    std::fs::remove_dir(in_the_way).unwrap();
    destination.tell("BGSAVE");
    status("ok");
    sink.give(&[delivery("a")]).await.unwrap();
    assert_eq!(destination.message_ids("changes"), ["before", "a"]);
}

#[tokio::test]
async fn a_server_that_runs_a_script_for_too_long_is_away_until_it_ends() {
    let destination = Destination::start_with("busy-reply-threshold 1");
    let sink = destination.sink("timeout = \"30s\"");
    sink.give(&[delivery("before")]).await.unwrap();
    let mut client = destination.client();
    let script =
        std::thread::spawn(move || redis::cmd("EVAL").arg("while true do end").arg(0).exec(&mut client).unwrap_err());
    let mut changes = (1..).map(|number| [delivery(&format!("m{number}"))]);
    // Before the script begins, changes are taken.
    let failure = loop {
        if let Err(failure) = sink.give(&changes.next().unwrap()).await {
            break failure;
        }
    };
    assert_eq!(failure.kind, AWAY);
    assert!(failure.cause.contains("BUSY Redis is busy running a script"), "{}", failure.cause);
    assert!(first_failure(&sink, &changes.next().unwrap()).await.cause.contains("BUSY"), "anew, too");
    redis::cmd("SCRIPT").arg("KILL").exec(&mut destination.client()).unwrap();
    script.join().unwrap();
    sink.give(&[delivery("after")]).await.unwrap();
}

#[tokio::test]
async fn a_server_of_a_cluster_is_away() {
    let destination = Destination::start_with("cluster-enabled yes");
    let failure = first_failure(&destination.sink(""), &[delivery("a")]).await;
    assert_eq!(failure.kind, AWAY);
    assert!(failure.cause.contains("CLUSTERDOWN"), "{}", failure.cause);
    destination.tell("CLUSTER ADDSLOTSRANGE 0 16383");
}

#[tokio::test]
async fn a_server_with_too_many_clients_is_away_and_says_so() {
    let destination = Destination::start_with("maxclients 1");
    let only_one = destination.client();
    for _ in 0..20 {
        let failure = first_failure(&destination.sink(""), &[delivery("a")]).await;
        assert_eq!(failure.kind, AWAY);
        assert!(failure.cause.ends_with("answers ERR max number of clients reached"), "{}", failure.cause);
    }
    drop(only_one);
}

#[tokio::test]
async fn memory_that_ends_in_the_middle_of_a_batch_leaves_exactly_what_was_not_confirmed() {
    let destination = Destination::start();
    let sink = destination.sink("");
    let changes: Vec<_> = (0..200).map(|number| with_callback_of(&format!("m{number}"), 20_000)).collect();
    sink.give(&changes[..1]).await.unwrap();
    let info = redis::cmd("INFO").arg("memory").query::<String>(&mut destination.client()).unwrap();
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().parse::<u64>().unwrap();
    destination.tell(&format!("CONFIG SET maxmemory {}", used + 2_000_000));
    let outcomes = sink.deliver(&changes[1..]).await;
    assert_eq!(outcomes.len(), changes.len() - 1, "each has a reply");
    // What the server keeps for the connection itself comes and goes, so one may fit after another didn't.
    let (confirmed, rest): (Vec<_>, Vec<_>) =
        changes[1..].iter().cloned().zip(outcomes).partition(|(_, outcome)| outcome.is_ok());
    assert!(!confirmed.is_empty() && !rest.is_empty());
    for (_, outcome) in &rest {
        assert!(
            matches!(outcome, Err(failure) if failure.kind == AWAY && failure.cause.contains("OOM")),
            "{outcome:?}"
        );
    }
    let ids = |part: &[(Delivery, _)]| part.iter().map(|(change, _)| change.change.facts.message_id.clone()).collect();
    let (confirmed, of_the_rest): (Vec<String>, Vec<String>) = (ids(&confirmed), ids(&rest));
    assert_eq!(destination.message_ids("changes")[1..], confirmed, "exactly those are there");
    destination.tell("CONFIG SET maxmemory 0");
    let rest: Vec<_> = rest.into_iter().map(|(change, _)| change).collect();
    sink.give(&rest).await.unwrap();
    assert_eq!(destination.message_ids("changes")[1..], [confirmed, of_the_rest].concat(), "each once");
}

#[tokio::test]
async fn what_one_stream_does_not_take_is_refused_and_the_others_get_theirs() {
    let destination = Destination::start();
    destination.tell("SET changes:TEXT text");
    destination.tell("ACL SETUSER default resetkeys ~changes:READ ~changes:TEXT");
    let sink = destination.sink("stream = \"changes:{status}\"");
    let mut changes = ["a", "b", "c", "d"].map(delivery);
    changes[1].change.facts.status = Status::new("text");
    changes[2].change.facts.status = Status::new("other");
    let outcomes = sink.deliver(&changes).await;
    assert!(outcomes[0].is_ok() && outcomes[3].is_ok() && outcomes.len() == 4, "{outcomes:?}");
    for (outcome, said) in [(&outcomes[1], "the key is there, and is no stream"), (&outcomes[2], "NOPERM")] {
        let failure = outcome.as_ref().unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused);
        assert!(failure.cause.contains(said), "{}", failure.cause);
    }
    assert_eq!(destination.message_ids("changes:READ"), ["a", "d"]);
}

#[tokio::test]
async fn a_message_over_the_servers_limit_is_refused_and_no_other_one_notices() {
    let destination = Destination::start_with("proto-max-bulk-len 1mb");
    let sink = destination.sink("body = \"callback\"");
    let mut taken = Vec::new();
    // Whether its answer can be read before the connection breaks must not be a matter of luck.
    for round in 0..6 {
        let ids = [format!("a{round}"), format!("large{round}"), format!("b{round}")];
        let changes = [delivery(&ids[0]), with_callback_of(&ids[1], LARGE + 1 + round * LARGE), delivery(&ids[2])];
        let outcomes = sink.deliver(&changes).await;
        assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
        let failure = outcomes[1].as_ref().unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure:?}");
        assert!(failure.cause.contains("larger than its proto-max-bulk-len"), "{}", failure.cause);
        taken.extend([ids[0].clone(), ids[2].clone()]);
    }
    sink.give(&[with_callback_of("at the limit", LARGE)]).await.unwrap();
    taken.push("at the limit".into());
    assert_eq!(destination.message_ids("changes"), taken, "each once");
}

#[tokio::test]
async fn a_large_message_within_the_servers_limit_is_taken() {
    let destination = Destination::start();
    let changes = [delivery("a"), with_callback_of("large", 3 * LARGE), delivery("b")];
    destination.sink("").give(&changes).await.unwrap();
    assert_eq!(destination.message_ids("changes"), ["a", "large", "b"]);
    assert!(destination.entries("changes")[1]["body"].len() > 3 * LARGE);
}

/// A change whose callback has so many bytes.
fn with_callback_of(message_id: &str, bytes: usize) -> Delivery {
    let mut delivery = delivery(message_id);
    let callback = format!(r#"{{"type":"MessageStatusCallback","more":"{}"}}"#, "x".repeat(bytes));
    let callback = callback.replacen(&"x".repeat(callback.len() - bytes), "", 1);
    assert_eq!(callback.len(), bytes);
    delivery.change.callback = RawValue::from_string(callback).unwrap();
    delivery
}
