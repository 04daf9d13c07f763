use super::bench::*;
use super::*;

#[tokio::test]
async fn an_attempt_at_a_deferred_change_counts_even_when_the_process_ends_in_it() {
    let folder = folder();
    let destination = Destination::new(1, |_, attempt| if attempt == 1 { Answer::TryAgain } else { Answer::Hang });
    let config = DeliveryConfig { attempts: 3, ..quick() };
    for attempt in [2, 3] {
        let bench = Bench::start(folder.path(), &destination, config.clone());
        if attempt == 2 {
            bench.accept("poison", "SENT").await;
        }
        while destination.calls().len() < attempt {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bench.crash().await;
    }
    let bench = Bench::start(folder.path(), &destination, config);
    bench.until("it is dead", |snapshot| snapshot.dead == 1).await;
    bench.drained().await;
    assert_eq!(bench.dead().await, [(1, "undeliverable".to_owned())]);
    assert_eq!(destination.calls().len(), 3);
    bench.stop().await;
}

#[tokio::test]
async fn one_change_that_hangs_holds_up_no_other_message() {
    let folder = folder();
    let destination = Destination::new(1, |id, _| if id == "slow" { Answer::Hang } else { Answer::Accept });
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.accept("slow", "SENT").await;
    for number in 0..600 {
        bench.accept(&format!("m{number}"), "SENT").await;
    }
    bench.until("all others are delivered", |snapshot| snapshot.delivered == 600).await;
    bench.crash().await;
    // After a crash what was not heard of comes again, and what came after it in the log, with the same ids.
    destination.now(|_, _| Answer::Accept);
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.drained().await;
    let accepted: BTreeSet<_> = destination.accepted().into_iter().collect();
    assert_eq!(accepted, (1..=601).collect());
    bench.stop().await;
}

#[tokio::test]
async fn a_sink_that_was_paused_stays_paused_over_a_restart_until_it_is_resumed() {
    let folder = folder();
    let destination = Destination::new(1, |_, _| Answer::Accept);
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.accept("first", "SENT").await;
    bench.drained().await;
    bench.tell(Command::Pause).await;
    bench.until("it is paused", |snapshot| snapshot.paused.as_deref() == Some("operator")).await;
    let on_disk = async || bench.store.feed("sink").unwrap().paused().await.unwrap();
    bench.eventually("that is on disk", async || on_disk().await.is_some()).await;
    bench.accept("second", "SENT").await;
    bench.crash().await;

    let bench = Bench::start(folder.path(), &destination, quick());
    bench.until("it is still paused", |snapshot| snapshot.paused.as_deref() == Some("operator")).await;
    bench.accept("third", "SENT").await;
    bench.tell(Command::Resume).await;
    bench.drained().await;
    assert_eq!(destination.accepted().into_iter().collect::<BTreeSet<_>>(), [1, 2, 3].into());
    bench.crash().await;

    let bench = Bench::start(folder.path(), &destination, quick());
    let fourth = bench.accept("fourth", "SENT").await;
    bench.drained().await;
    assert_eq!(destination.accepted().last(), Some(&fourth), "resumed, it stays so over a restart, too");
    bench.stop().await;
}

#[tokio::test]
async fn what_was_written_down_behind_a_change_that_hung_is_not_given_anew_after_a_crash() {
    const HOUR: Duration = Duration::from_secs(3600);
    let folder = folder();
    let destination = Destination::new(1, |id, attempt| match (id, attempt) {
        ("hangs", 1) => Answer::Hang,
        ("refused", _) => Answer::Refuse,
        ("deferred", _) => Answer::TryAgainAfter(HOUR),
        _ => Answer::Accept,
    });
    let config = DeliveryConfig { backoff: Backoff { min: HOUR, max: HOUR }, ..quick() };
    let bench = Bench::start(folder.path(), &destination, config.clone());
    let all = ["hangs", "refused", "deferred", "good"].map(str::to_owned);
    bench.accept_all(&all, "SENT").await;
    bench.accept("deferred", "READ").await;
    let written = async || (bench.dead().await.len(), bench.deferred().await.len());
    bench.eventually("what failed is written down", async || written().await == (1, 2)).await;
    bench.until("the good one is delivered", |snapshot| snapshot.delivered == 1).await;
    assert_eq!(bench.store.places()["sink"], 0, "the place is before the one that hangs");
    bench.crash().await;

    let bench = Bench::start(folder.path(), &destination, config);
    bench.eventually("it has come to the end", async || bench.is_at_the_end()).await;
    let calls = destination.calls();
    let times = |seq: i64| calls.iter().filter(|call| **call == seq).count();
    assert_eq!([1, 2, 3, 4, 5].map(times), [2, 1, 1, 2, 0], "what had no row comes again, and that alone");
    assert_eq!(bench.dead().await, [(2, "refused".to_owned())], "it did not die twice");
    assert_eq!(bench.deferred().await.iter().map(|row| (row.seq, row.attempts)).collect::<Vec<_>>(), [(3, 1), (5, 0)]);
    bench.stop().await;
}

#[tokio::test]
async fn a_dead_letter_is_given_as_it_was_after_retention_has_deleted_its_change() {
    let folder = folder();
    let destination = Destination::new(1, |id, _| if id == "bad" { Answer::Refuse } else { Answer::Accept });
    let sqlite = Sqlite { path: folder.path().to_owned(), retention: Duration::ZERO, ..Sqlite::default() };
    let bench = Bench::start_with(&sqlite, &destination, quick());
    // One of several ids in its callback, and with an earlier status of its message.
    bench.accept("bad", "SENT").await;
    bench.accept_all(&["other", "bad", "third"].map(str::to_owned), "READ").await;
    bench.until("both are dead", |snapshot| snapshot.dead == 2).await;
    let kept = async || bench.store.changes(Query::default(), 0, 10).await.unwrap().entries.len();
    bench.eventually("retention has deleted them", async || kept().await == 0).await;
    bench.crash().await;

    let bench = Bench::start_with(&sqlite, &destination, quick());
    destination.now(|_, _| Answer::Accept);
    assert_eq!(bench.revive_dead().await, 2);
    bench.until("both are delivered", |snapshot| snapshot.delivered == 2).await;
    let calls = destination.calls_in_full();
    let events = |attempt: u32| {
        let given = calls.iter().filter(|call| call.message_id == "bad" && call.attempt == attempt);
        given.map(|call| (call.seq, call.event.clone())).collect::<Vec<_>>()
    };
    assert_eq!(events(1).len(), 2);
    assert_eq!(events(2), events(1), "each as it was, and in order");
    let kept = async || bench.store.changes(Query::default(), 0, 10).await.unwrap().entries.len();
    bench.eventually("retention has deleted them again", async || kept().await == 0).await;
    assert_eq!((bench.dead().await, bench.deferred().await), (vec![], vec![]));
    bench.stop().await;
}

#[tokio::test]
async fn what_a_failing_store_could_not_write_down_is_written_when_it_works_again_and_not_given_anew() {
    let folder = folder();
    let destination = Destination::new(1, |id, attempt| match (id, attempt) {
        ("slow", 1) | ("poison", 1) => Answer::TryAgain,
        ("slow", _) => Answer::Hold,
        ("poison", _) => Answer::HoldAndRefuse,
        _ => Answer::Accept,
    });
    let config = DeliveryConfig { concurrency: Some(8), ..quick() };
    let bench = Bench::start(folder.path(), &destination, config);
    bench.accept_all(&["slow", "poison"].map(str::to_owned), "SENT").await;
    bench.eventually("both are tried again", async || destination.calls().len() == 4).await;
    // From now on what becomes of them can't be written, and they end.
    let database = rusqlite::Connection::open(folder.path().join("store.sqlite3")).unwrap();
    database.execute("ALTER TABLE deferred RENAME TO elsewhere", []).unwrap();
    destination.let_go();
    bench.eventually("both have ended", async || destination.seen.lock().unwrap().at_once == 0).await;
    bench.until("one has been heard of", |snapshot| snapshot.delivered == 1 || snapshot.dead == 1).await;
    assert_eq!(bench.dead().await, [], "and that is not on disk");
    database.execute("ALTER TABLE elsewhere RENAME TO deferred", []).unwrap();
    bench.accept("good", "SENT").await;
    bench.drained().await;
    let calls = destination.calls();
    let times = |seq: i64| calls.iter().filter(|call| **call == seq).count();
    assert_eq!([1, 2, 3].map(times), [2, 2, 1]);
    assert_eq!((bench.dead().await, bench.standing.snapshot().dead), (vec![(2, "refused".to_owned())], 1));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_no_change_waits_longer_than_the_longest_pause() {
    let folder = folder();
    let destination = Destination::new(1, |_, attempt| match attempt {
        1 => Answer::TryAgainAfter(Duration::from_secs(600)),
        _ => Answer::Accept,
    });
    let pauses = |max| Backoff { min: Duration::from_secs(1), max: Duration::from_secs(max) };
    let bench = Bench::start(folder.path(), &destination, DeliveryConfig { backoff: pauses(600), ..quick() });
    bench.accept("m", "SENT").await;
    bench.eventually("it is deferred", async || bench.deferred().await.len() == 1).await;
    bench.stop().await;

    // The pauses are shorter now, as they are after the clock was put back.
    let bench = Bench::start(folder.path(), &destination, DeliveryConfig { backoff: pauses(10), ..quick() });
    bench.until("it is known", |snapshot| snapshot.deferred == 1).await;
    tokio::time::sleep(Duration::from_millis(10_002)).await;
    bench.eventually("it is tried again", async || destination.calls().len() == 2).await;
    bench.drained().await;
    bench.stop().await;
}
