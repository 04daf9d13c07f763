//! When attempts are made at a change that fails.

use super::bench::*;
use super::*;

const ATTEMPTS: u32 = 8;

/// The longest pause.
const MAX: u64 = 20;

fn seconds() -> DeliveryConfig {
    let backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(MAX) };
    DeliveryConfig { attempts: ATTEMPTS, backoff, ..quick() }
}

/// What a change's pauses must be within, in seconds, by the attempt before them.
type Windows = fn(u32) -> (u64, u64);

/// Follows all attempts at one change that fails every time, over a restart after each when `restarts`.
async fn assert_pauses_are_within(windows: Windows, answer: fn(u32) -> Answer, restarts: bool) {
    let folder = folder();
    let destination = Destination::new(1, move |_, attempt| answer(attempt));
    let mut bench = Bench::start(folder.path(), &destination, seconds());
    bench.accept("m", "SENT").await;
    for attempt in 1..ATTEMPTS {
        let written = async || {
            let rows = bench.deferred().await;
            rows.first().copied().filter(|row| row.attempts == attempt && !row.in_flight)
        };
        bench.eventually("the attempt has failed", async || written().await.is_some()).await;
        let due_at = written().await.expect("time stands still").due_at;
        let calls = destination.calls_in_full();
        assert_eq!(calls.len(), attempt as usize, "one attempt at a time");
        let failed_at = calls.last().expect("there is one").at;
        let [earliest, latest] = bench.instants(due_at);
        let (least, most) = windows(attempt);
        // The row has whole milliseconds.
        let tick = Duration::from_millis(1);
        assert!(latest + tick >= failed_at + Duration::from_secs(least), "attempt {attempt}: {:?}", latest - failed_at);
        assert!(earliest <= failed_at + Duration::from_secs(most), "attempt {attempt}: {:?}", earliest - failed_at);
        if restarts {
            bench.stop().await;
            bench = Bench::start(folder.path(), &destination, seconds());
        }

        tokio::time::sleep_until(bench.instants(due_at)[1] + 2 * tick).await;
        bench.eventually("the next attempt is made", async || destination.calls().len() > attempt as usize).await;
        let next = destination.calls_in_full().pop().expect("there is one");
        assert!(next.at + tick >= bench.instants(due_at)[0], "not before it was due");
    }
    bench.until("it is dead", |snapshot| snapshot.dead == 1).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(destination.calls().len(), ATTEMPTS as usize, "after its attempts it is not tried again");
    assert_eq!(bench.dead().await, [(1, "exhausted".to_owned())]);
    bench.stop().await;
}

fn doubled(attempt: u32) -> (u64, u64) {
    (0, MAX.min(1 << (attempt - 1)))
}

#[tokio::test(start_paused = true)]
async fn attempts_at_a_change_come_within_windows_that_double_up_to_the_longest_pause() {
    assert_pauses_are_within(doubled, |_| Answer::TryAgain, false).await;
}

#[tokio::test(start_paused = true)]
async fn attempts_at_a_change_keep_their_times_over_restarts() {
    assert_pauses_are_within(doubled, |_| Answer::TryAgain, true).await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_not_made_before_the_destination_asked_for_it() {
    assert_pauses_are_within(|_| (15, MAX), |_| Answer::TryAgainAfter(Duration::from_secs(15)), false).await;
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_asks_for_more_than_the_longest_pause_gets_that() {
    assert_pauses_are_within(|_| (MAX, MAX), |_| Answer::TryAgainAfter(Duration::from_secs(86_400)), false).await;
}

#[tokio::test(start_paused = true)]
async fn the_later_changes_of_a_message_wait_with_the_first_and_go_out_at_once_after_it() {
    let folder = folder();
    let asked = Duration::from_secs(15);
    let destination = Destination::new(1, move |id, attempt| match (id, attempt) {
        ("m", 1) => Answer::TryAgainAfter(asked),
        _ => Answer::Accept,
    });
    let bench = Bench::start(folder.path(), &destination, DeliveryConfig { attempts: 20, ..seconds() });
    bench.accept("m", "SENT").await;
    bench.until("it has failed", |snapshot| snapshot.deferred == 1).await;
    destination.now(|_, _| Answer::Accept);
    bench.accept("m", "RECEIVED").await;
    bench.accept("m", "READ").await;
    bench.accept("other", "SENT").await;
    bench.until("the other is delivered", |snapshot| snapshot.delivered == 1).await;
    bench.eventually("the later ones are written down", async || bench.deferred().await.len() == 3).await;
    tokio::time::sleep(Duration::from_secs(MAX) + Duration::from_millis(2)).await;
    bench.drained().await;
    let calls = destination.calls_in_full();
    assert_eq!(calls.iter().map(|call| call.seq).collect::<Vec<_>>(), [1, 4, 1, 2, 3]);
    assert!(calls[2].at - calls[0].at >= asked);
    bench.stop().await;
}
