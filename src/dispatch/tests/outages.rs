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
    let log = Log::start();
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

/// The pauses between the calls.
fn pauses(calls: &[Call]) -> Vec<Duration> {
    calls.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

/// Timers are as fine as this.
const TICK: Duration = Duration::from_millis(2);

fn minutes() -> DeliveryConfig {
    DeliveryConfig { backoff: Backoff { min: Duration::from_secs(1), max: Duration::from_secs(60) }, ..quick() }
}

#[tokio::test(start_paused = true)]
async fn probes_are_further_and_further_apart_up_to_the_longest_pause() {
    let folder = folder();
    let destination = Destination::new(1, |_, _| Answer::Away);
    let bench = Bench::start(folder.path(), &destination, minutes());
    bench.accept("m", "SENT").await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let pauses = pauses(&destination.calls_in_full());
    assert!(pauses.len() >= 60, "it is probed on: {pauses:?}");
    for (number, pause) in pauses.iter().enumerate() {
        let longest = Duration::from_secs(60.min(1 << number.min(6)));
        assert!(*pause <= longest + TICK, "pause {number}: {pauses:?}");
    }
    // At random between nothing and a minute: half a minute on average.
    let later = &pauses[pauses.len() / 2..];
    assert!(later.iter().sum::<Duration>() > Duration::from_secs(10) * later.len() as u32, "{later:?}");
    assert_eq!((bench.deferred().await, bench.dead().await), (vec![], vec![]));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_away_is_not_probed_before_it_asked_to_be_but_after_the_longest_pause() {
    for (asked, least) in [(20, 20), (3600, 60)] {
        let folder = folder();
        let destination = Destination::new(1, move |_, _| Answer::AwayAfter(Duration::from_secs(asked)));
        let bench = Bench::start(folder.path(), &destination, minutes());
        bench.accept("m", "SENT").await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let pauses = pauses(&destination.calls_in_full());
        assert!(pauses.len() >= 59, "{pauses:?}");
        let allowed = Duration::from_secs(least)..=Duration::from_secs(60) + TICK;
        assert!(pauses.iter().all(|pause| allowed.contains(pause)), "asked for {asked}: {pauses:?}");
        bench.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_any_of_the_calls_under_way_is_asked_for_is_obeyed() {
    let folder = folder();
    let asked = Duration::from_secs(40);
    let destination =
        Destination::new(1, move |id, _| if id == "m-2" { Answer::AwayAfter(asked) } else { Answer::Away });
    let bench = Bench::start(folder.path(), &destination, minutes());
    bench.accept_all(&ids("m", 4), "SENT").await;
    bench.eventually("all four have failed", async || bench.standing.snapshot().failed == 4).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    let pauses = pauses(&destination.calls_in_full());
    assert!(pauses[3] >= asked, "{pauses:?}");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_calls_are_more_at_once_with_each_that_succeeds() {
    const LANES: usize = 16;
    let folder = folder();
    let destination = Destination::new(1, |_, _| Answer::Away);
    let bench = Bench::start(folder.path(), &destination, DeliveryConfig { concurrency: Some(LANES), ..minutes() });
    bench.accept_all(&ids("m", 200), "SENT").await;
    bench.until("it is away", |snapshot| snapshot.failed >= LANES as u64).await;
    let before = destination.calls().len();
    destination.now(|_, _| Answer::Slow(Duration::from_secs(1)));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(destination.accepted().len(), 200);
    let calls = destination.calls_in_full().split_off(before);
    for call in &calls {
        let allowed = LANES.min(1 << call.accepted.min(10));
        assert!(call.at_once <= allowed, "{} at once after {} were accepted", call.at_once, call.accepted);
    }
    assert_eq!(calls.iter().map(|call| call.at_once).max(), Some(LANES), "in the end it is as fast as before");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_calls_are_larger_with_each_that_succeeds() {
    let folder = folder();
    let destination = Destination::new(100, |_, _| Answer::Away);
    let bench = Bench::start(folder.path(), &destination, DeliveryConfig { concurrency: Some(1), ..minutes() });
    bench.accept_all(&ids("m", 400), "SENT").await;
    bench.until("it is away", |snapshot| snapshot.away_since.is_some()).await;
    let before = destination.seen.lock().unwrap().lanes.len();
    destination.now(|_, _| Answer::Slow(Duration::from_millis(10)));
    tokio::time::sleep(Duration::from_secs(600)).await;
    let mut accepted = destination.accepted();
    accepted.sort_unstable();
    assert_eq!(accepted, (1..=400).collect::<Vec<_>>());
    let lanes = destination.seen.lock().unwrap().lanes.split_off(before);
    assert_eq!(lanes, [1, 2, 4, 8, 16, 32, 64, 100, 100, 73]);
    bench.stop().await;
}

#[tokio::test]
async fn one_change_that_sends_the_destination_away_each_time_stops_no_other() {
    let folder = folder();
    let destination = Destination::new(1, |id, _| if id == "bad" { Answer::Away } else { Answer::Accept });
    let bench = Bench::start(folder.path(), &destination, quick());
    let bad = bench.accept("bad", "SENT").await;
    for number in 0..30 {
        bench.accept(&format!("m{number}"), "SENT").await;
    }
    bench.until("it is dead", |snapshot| snapshot.dead == 1).await;
    bench.drained().await;
    assert_eq!(destination.accepted().len(), 30);
    assert_eq!(bench.dead().await, [(bad, "exhausted".to_owned())]);
    bench.stop().await;
}

#[tokio::test]
async fn what_was_under_way_when_a_destination_went_away_does_not_say_that_it_is_back() {
    let folder = folder();
    let destination = Destination::new(1, |id, _| if id == "slow" { Answer::Hold } else { Answer::Away });
    let backoff = Backoff { min: Duration::from_secs(3600), max: Duration::from_secs(3600) };
    let config = DeliveryConfig { concurrency: Some(2), backoff, ..quick() };
    let bench = Bench::start(folder.path(), &destination, config);
    bench.accept("slow", "SENT").await;
    bench.eventually("it is under way", async || destination.calls().len() == 1).await;
    bench.accept("other", "SENT").await;
    bench.until("it is away", |snapshot| snapshot.away_since.is_some()).await;
    destination.let_go();
    bench.until("the slow one is delivered", |snapshot| snapshot.delivered == 1).await;
    assert_eq!(bench.standing.snapshot().state(), "away");
    bench.stop().await;
}
