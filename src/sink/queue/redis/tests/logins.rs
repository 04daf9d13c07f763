//! Who may add to a stream, and what is said of those who may not.

use super::destination::{Destination, sink_to};
use crate::sink::conformance::{Give as _, delivery, first_failure};
use crate::sink::queue::Broker as _;
use crate::sink::{FailureKind, Sink as _};

const AWAY: FailureKind = FailureKind::Away { after: None };

/// A user that may do no more than it has to, with a password that a URL has to encode.
pub(super) const USER: &str = "user canary-user on >canary/password ~changes +xadd";
pub(super) const LOGIN: &str = "canary-user:canary%2Fpassword";

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
