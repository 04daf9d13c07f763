use super::bench::*;
use super::*;

#[tokio::test]
async fn a_destination_that_is_away_gets_single_probes_and_nothing_is_written() {
    let folder = folder();
    let destination = Destination::new(1, |_, _| Answer::Away);
    let bench = Bench::start(folder.path(), &destination, quick());
    for number in 0..50 {
        bench.accept(&format!("m{number}"), "SENT").await;
    }
    bench.until("it has failed a few times", |snapshot| snapshot.failed > 10).await;
    assert_eq!(bench.standing.snapshot().state(), "away");
    assert_eq!((bench.deferred().await.len(), bench.dead().await, bench.store.places()["sink"]), (0, vec![], 0));
    destination.seen.lock().unwrap().most_at_once = 0;
    let failed = bench.standing.snapshot().failed;
    bench.until("it is probed again", |snapshot| snapshot.failed > failed + 3).await;
    assert_eq!(destination.seen.lock().unwrap().most_at_once, 1);

    destination.now(|_, _| Answer::Accept);
    bench.drained().await;
    assert_eq!(destination.accepted().len(), 50);
    assert_eq!(bench.standing.snapshot().state(), "delivering");
    bench.stop().await;
}

#[tokio::test]
async fn several_different_changes_that_fail_in_a_row_are_a_destination_that_is_away() {
    let folder = folder();
    let destination = Destination::new(1, |_, _| Answer::TryAgain);
    let bench = Bench::start(folder.path(), &destination, quick());
    for number in 0..50 {
        bench.accept(&format!("m{number}"), "SENT").await;
    }
    bench.until("it is away", |snapshot| snapshot.away_since.is_some()).await;
    bench.until("it is probed more often than a change has attempts", |snapshot| snapshot.failed > 30).await;
    assert!(bench.deferred().await.len() < AWAY_AFTER);
    assert_eq!(bench.dead().await, [], "an outage costs no change its attempts");
    destination.now(|_, _| Answer::Accept);
    bench.drained().await;
    assert_eq!(destination.accepted().len(), 50);
    bench.stop().await;
}

#[tokio::test]
async fn a_destination_that_is_gone_pauses_the_sink_until_it_is_resumed_also_over_a_restart() {
    let folder = folder();
    let destination = Destination::new(1, |_, _| Answer::Gone);
    let bench = Bench::start(folder.path(), &destination, quick());
    let seq = bench.accept("m", "SENT").await;
    bench.until("it is paused", |snapshot| snapshot.paused.as_deref() == Some("gone")).await;
    bench.stop().await;

    destination.now(|_, _| Answer::Accept);
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.until("it is still paused", |snapshot| snapshot.paused.as_deref() == Some("gone")).await;
    assert!(destination.accepted().is_empty());
    bench.tell(Command::Resume).await;
    bench.drained().await;
    assert_eq!(destination.accepted(), [seq]);
    bench.tell(Command::Pause).await;
    bench.until("it is paused", |snapshot| snapshot.paused.as_deref() == Some("operator")).await;
    bench.accept("other", "SENT").await;
    bench.stop().await;
    assert_eq!(destination.accepted(), [seq]);
}

#[tokio::test]
async fn what_fails_every_time_keeps_nobody_else_back_even_when_there_is_much_of_it_in_a_row() {
    let folder = folder();
    let destination = Destination::new(1, |id, _| match id.starts_with("poison") {
        true => Answer::TryAgain,
        false => Answer::Accept,
    });
    let bench = Bench::start(folder.path(), &destination, quick());
    let mut all = ids("poison", 3 * AWAY_AFTER);
    all.extend(ids("good", 10));
    bench.accept_all(&all, "SENT").await;
    bench.until("the others are delivered", |snapshot| snapshot.delivered == 10).await;
    // While others are delivered now and then, it has its attempts and no more.
    let dead = 3 * i64::try_from(AWAY_AFTER).unwrap();
    for number in 0.. {
        let delivered = bench.standing.snapshot().delivered;
        bench.accept("good", &format!("STATUS{number}")).await;
        bench.until("it is delivered", |snapshot| snapshot.delivered > delivered).await;
        if bench.standing.snapshot().dead == dead {
            break;
        }
    }
    bench.drained().await;
    assert!(destination.calls_in_full().iter().filter(|call| call.message_id == "good-0").count() == 1);
    bench.stop().await;
}

#[tokio::test]
async fn a_change_that_was_deferred_is_a_probe_too() {
    let folder = folder();
    let destination = Destination::new(1, |_, _| Answer::TryAgain);
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.accept_all(&ids("m", AWAY_AFTER), "SENT").await;
    bench.until("it is away", |snapshot| snapshot.away_since.is_some() && snapshot.failed > 20).await;
    // One of them is accepted, whichever it is.
    for number in 0..AWAY_AFTER {
        let good = format!("m-{number}");
        let delivered = bench.standing.snapshot().delivered;
        destination.now(move |id, _| if id == good { Answer::Accept } else { Answer::TryAgain });
        bench.until("it is delivered", |snapshot| snapshot.delivered > delivered).await;
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_sink_whose_destination_is_gone_says_so_once() {
    let (log, _guard) = Log::start();
    let folder = folder();
    let destination = Destination::new(1, |_, _| Answer::Gone);
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.accept_all(&ids("m", 10), "SENT").await;
    bench.until("it is paused", |snapshot| snapshot.paused.is_some()).await;
    bench.eventually("its calls are over", async || destination.seen.lock().unwrap().at_once == 0).await;
    let calls = destination.calls().len();
    bench.stop().await;
    assert_eq!((calls, log.times("the destination is gone for good")), (4, 1));
}
