use super::bench::*;
use super::*;

#[tokio::test]
async fn a_failed_change_holds_up_its_message_and_nothing_else() {
    let folder = folder();
    let destination =
        Destination::new(1, |id, attempt| if id == "bad" && attempt < 3 { Answer::TryAgain } else { Answer::Accept });
    let bench = Bench::start(folder.path(), &destination, quick());
    let mut bad = Vec::new();
    for status in ["SENT", "RECEIVED", "READ"] {
        bad.push(bench.accept("bad", status).await);
        for id in ["a", "b", "c"] {
            bench.accept(id, status).await;
        }
    }
    bench.drained().await;
    let accepted = destination.accepted();
    assert_eq!(accepted.len(), 12, "nothing twice without a failure: {accepted:?}");
    assert_eq!(accepted.iter().copied().filter(|seq| bad.contains(seq)).collect::<Vec<_>>(), bad);
    assert_eq!(bench.dead().await, []);
    bench.stop().await;
}

#[tokio::test]
async fn a_refused_change_is_a_dead_letter_and_the_next_of_its_message_goes_out() {
    let folder = folder();
    let destination =
        Destination::new(100, |id, attempt| if id == "bad" && attempt == 1 { Answer::Refuse } else { Answer::Accept });
    let bench = Bench::start(folder.path(), &destination, DeliveryConfig { concurrency: Some(1), ..quick() });
    destination.now(|id, _| if id == "bad" { Answer::Refuse } else { Answer::Accept });
    let bad = bench.accept("bad", "SENT").await;
    let good = bench.accept("good", "SENT").await;
    bench.drained().await;
    assert_eq!(bench.dead().await, [(bad, "refused".to_owned())]);
    assert_eq!(destination.accepted(), [good]);

    destination.now(|_, _| Answer::Accept);
    assert_eq!(bench.revive_dead().await, 1);
    bench.until("the dead letter is delivered", |snapshot| snapshot.delivered == 2).await;
    bench.drained().await;
    assert_eq!(destination.accepted(), [good, bad]);
    assert_eq!(bench.standing.snapshot().dead, 0);
    bench.stop().await;
}

#[tokio::test]
async fn what_fails_every_time_is_a_dead_letter_after_its_attempts() {
    let folder = folder();
    let destination = Destination::new(1, |id, _| if id == "bad" { Answer::TryAgain } else { Answer::Accept });
    let bench = Bench::start(folder.path(), &destination, quick());
    let bad = bench.accept("bad", "SENT").await;
    bench.until("it is dead", |snapshot| snapshot.dead == 1).await;
    bench.drained().await;
    assert_eq!(bench.dead().await, [(bad, "exhausted".to_owned())]);
    assert_eq!(destination.calls(), vec![bad; 5]);
    bench.stop().await;
}

#[tokio::test]
async fn a_fault_in_a_sink_is_a_failed_attempt_and_not_the_end() {
    let folder = folder();
    let destination = Destination::new(1, |_, attempt| if attempt == 1 { Answer::Panic } else { Answer::Accept });
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.accept("m", "SENT").await;
    bench.drained().await;
    assert_eq!(destination.accepted(), [1]);
    bench.stop().await;
}

#[tokio::test]
async fn a_backlog_may_leave_out_what_was_overtaken() {
    let folder = folder();
    let destination = Destination::new(1, |_, _| Answer::Away);
    let bench = Bench::start(folder.path(), &destination, DeliveryConfig { only_latest: true, ..quick() });
    bench.accept("first", "SENT").await;
    bench.until("it is away", |snapshot| snapshot.away_since.is_some()).await;
    for status in ["SENT", "RECEIVED", "READ", "RECEIVED"] {
        for id in ["a", "b"] {
            bench.accept(id, status).await;
        }
    }
    destination.now(|_, _| Answer::Accept);
    bench.drained().await;
    let given: BTreeSet<_> = destination.seen.lock().unwrap().accepted.iter().cloned().collect();
    // The last RECEIVED of each is an exact duplicate and was not stored.
    assert_eq!(given, [("first", 1), ("a", 6), ("b", 7)].map(|(id, seq)| (id.to_owned(), seq)).into());
    bench.stop().await;
}

#[tokio::test]
async fn the_log_is_read_on_when_a_slow_change_ends_behind_which_all_that_may_be_read_is_done() {
    let folder = folder();
    let destination = Destination::new(100, |id, _| if id == "slow" { Answer::Hold } else { Answer::Accept });
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.accept("slow", "SENT").await;
    bench.eventually("it is under way", async || destination.calls() == [1]).await;
    for status in ["SENT", "RECEIVED"] {
        bench.accept_all(&ids("m", 1000), status).await;
    }
    bench.until("no more may be read", |snapshot| snapshot.delivered >= window::MAX_CHANGES as u64 - 1).await;
    bench.eventually("the slow one alone is under way", async || destination.seen.lock().unwrap().at_once == 1).await;
    destination.let_go();
    bench.drained().await;
    assert_eq!(destination.accepted().len(), 2001);
    bench.stop().await;
}

#[tokio::test]
async fn what_a_destination_took_beside_a_failure_is_not_given_again() {
    let folder = folder();
    let destination = Destination::with(100, false, |id, attempt| match id {
        "refused-0" | "refused-1" => Answer::Refuse,
        "again-0" if attempt == 1 => Answer::TryAgain,
        _ => Answer::Accept,
    });
    let bench = Bench::start(folder.path(), &destination, DeliveryConfig { concurrency: Some(1), ..quick() });
    let messages = [ids("a", 5), ids("refused", 2), ids("b", 5), ids("again", 1), ids("c", 5)].concat();
    bench.accept_all(&messages, "SENT").await;
    bench.drained().await;
    let calls = destination.calls();
    assert_eq!(calls.len(), messages.len() + 1, "only the one that could be tried again: {calls:?}");
    let dead = bench.dead().await;
    assert_eq!(dead, [(6, "refused".to_owned()), (7, "refused".to_owned())]);
    bench.stop().await;
}

#[tokio::test]
async fn a_sink_is_never_given_two_changes_of_one_message_at_once() {
    let folder = folder();
    let destination = Destination::new(100, |_, _| Answer::Accept);
    let bench = Bench::start(folder.path(), &destination, DeliveryConfig { concurrency: Some(1), ..quick() });
    bench.tell(Command::Pause).await;
    let messages = ids("m", 3);
    for status in ["SENT", "RECEIVED", "READ", "PLAYED"] {
        bench.accept_all(&messages, status).await;
    }
    bench.tell(Command::Resume).await;
    bench.drained().await;
    assert_eq!(destination.seen.lock().unwrap().lanes, [3; 4]);
    assert_eq!(destination.accepted(), (1..=12).collect::<Vec<_>>());
    bench.stop().await;
}

#[tokio::test]
async fn a_sink_with_one_lane_gets_everything_in_the_order_stored() {
    let folder = folder();
    let destination = Destination::new(100, |_, _| Answer::Accept);
    let bench = Bench::start(folder.path(), &destination, DeliveryConfig { concurrency: Some(1), ..quick() });
    bench.tell(Command::Pause).await;
    for message in ["a", "b"] {
        for status in ["SENT", "RECEIVED", "READ"] {
            bench.accept(message, status).await;
        }
    }
    bench.tell(Command::Resume).await;
    bench.drained().await;
    assert_eq!(destination.accepted(), (1..=6).collect::<Vec<_>>());
    assert_eq!(destination.seen.lock().unwrap().lanes, [1, 1, 2, 1, 1]);
    bench.stop().await;
}
