//! Fresh changes and retries share a sink's lanes.

use super::bench::*;
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// How long the destination takes for a change.
const SLOW: Duration = Duration::from_secs(1);

const RETRIES: usize = 40;
const FRESH: usize = 200;

/// What the destination was given when that many retries came due while that many fresh changes waited.
async fn calls_of_both(concurrency: usize) -> Vec<Call> {
    let folder = folder();
    let destination = Destination::new(1, |id, attempt| match attempt {
        1 if id.starts_with("bad") => Answer::TryAgainAfter(HOUR),
        _ => Answer::Accept,
    });
    let backoff = Backoff { min: HOUR, max: HOUR };
    let config = DeliveryConfig { concurrency: Some(concurrency), backoff, ..quick() };
    let bench = Bench::start(folder.path(), &destination, config);
    // Good ones between them, or the destination would be taken for away.
    let both = ids("bad", RETRIES).into_iter().zip(ids("good", RETRIES)).flat_map(|(bad, good)| [bad, good]);
    bench.accept_all(&both.collect::<Vec<_>>(), "SENT").await;
    bench.eventually("all bad ones are deferred", async || bench.deferred().await.len() == RETRIES).await;
    bench.until("all good ones are delivered", |snapshot| snapshot.delivered == RETRIES as u64).await;
    bench.tell(Command::Pause).await;
    bench.until("it is paused", |snapshot| snapshot.paused.is_some()).await;
    bench.accept_all(&ids("fresh", FRESH), "SENT").await;
    tokio::time::sleep(2 * HOUR).await;

    let before = destination.calls().len();
    assert_eq!(before, 2 * RETRIES);
    destination.now(|_, _| Answer::Slow(SLOW));
    bench.tell(Command::Resume).await;
    let all = (2 * RETRIES + FRESH) as u64;
    bench.pass(SLOW / 2, "all are delivered", |snapshot| snapshot.delivered == all).await;
    let calls = destination.calls_in_full().split_off(before);
    assert_eq!(calls.len(), RETRIES + FRESH, "each once");
    bench.stop().await;
    calls
}

fn is_retry(call: &&Call) -> bool {
    call.attempt > 1
}

#[tokio::test(start_paused = true)]
async fn retries_take_a_quarter_of_the_lanes_at_most_and_hold_up_no_fresh_change() {
    let calls = calls_of_both(8).await;
    for call in calls.iter().filter(is_retry) {
        let others = calls.iter().filter(is_retry).filter(|other| other.at <= call.at && other.at + SLOW > call.at);
        assert!(others.count() <= 2, "more than a quarter of eight: {calls:?}");
    }
    let half = calls.iter().enumerate().filter(|(_, call)| is_retry(call)).nth(RETRIES / 2).expect("it was made").0;
    assert!(half >= RETRIES, "as many fresh ones at least were given meanwhile: {half}");
}

#[tokio::test(start_paused = true)]
async fn retries_are_made_while_a_large_backlog_of_fresh_changes_waits() {
    let calls = calls_of_both(8).await;
    let half = calls.iter().enumerate().filter(|(_, call)| !is_retry(call)).nth(FRESH / 2).expect("it was given").0;
    let retries = calls[..half].iter().filter(is_retry).count();
    assert!(retries >= 10, "a few retries were made meanwhile: {retries}");
}

#[tokio::test(start_paused = true)]
async fn where_there_is_but_one_lane_fresh_changes_and_retries_take_turns() {
    let calls = calls_of_both(1).await;
    let retries = calls[..RETRIES].iter().filter(is_retry).count();
    assert!(retries.abs_diff(RETRIES / 2) <= 1, "half of them: {retries}");
}
