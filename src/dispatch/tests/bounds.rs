//! What happens when there are as many deferred changes or dead letters as there may be.

use super::bench::*;
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// So many that fail the first time, with others between them, so that the destination isn't taken for away.
fn every_other(prefix: &str, count: usize) -> Vec<String> {
    let both = ids(&format!("bad-{prefix}"), count).into_iter().zip(ids(&format!("good-{prefix}"), count));
    both.flat_map(|(bad, good)| [bad, good]).collect()
}

/// Defers what is bad for an hour the first time.
fn defers_the_bad() -> impl Fn(&str, u32) -> Answer + Send + Sync {
    |id, attempt| match attempt {
        1 if id.starts_with("bad") => Answer::TryAgainAfter(HOUR),
        _ => Answer::Accept,
    }
}

fn hours() -> DeliveryConfig {
    DeliveryConfig { backoff: Backoff { min: HOUR, max: HOUR }, ..quick() }
}

#[tokio::test(start_paused = true)]
async fn a_sink_with_too_many_deferred_changes_reads_no_further_until_there_is_room_and_loses_nothing() {
    let log = Log::start();
    let folder = folder();
    let destination = Destination::new(1, defers_the_bad());
    let bench = Bench::start(folder.path(), &destination, hours());
    bench.accept_all(&every_other("a", MAX_DEFERRED), "SENT").await;
    bench.until("it is held", |snapshot| snapshot.held.is_some()).await;
    assert_eq!(bench.standing.snapshot().state(), "held");
    bench.eventually("its place is at the end", async || bench.is_at_the_end()).await;
    let behind = bench.accept_all(&every_other("b", MAX_DEFERRED), "SENT").await;
    tokio::time::sleep(HOUR / 2).await;
    assert!(destination.calls().into_iter().all(|seq| seq <= behind / 2), "nothing more is given");
    assert_eq!(bench.store.places()["sink"], behind / 2, "and nothing is passed over");
    assert_eq!((log.times("reads no further"), log.times("reads on")), (1, 0), "said once");
    bench.stop().await;

    // It is held over a restart.
    let bench = Bench::start(folder.path(), &destination, hours());
    bench.until("it is held", |snapshot| snapshot.held.is_some()).await;
    bench.pass(HOUR / 60, "all are delivered", |snapshot| snapshot.delivered == 3 * MAX_DEFERRED as u64).await;
    bench.drained().await;
    let accepted: BTreeSet<_> = destination.accepted().into_iter().collect();
    assert_eq!(accepted, (1..=behind).collect());
    assert_eq!(destination.accepted().len() as i64, behind, "each once");
    assert_eq!(bench.standing.snapshot().held, None);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_sink_at_the_bound_of_deferred_changes_does_not_say_so_for_each_one() {
    let log = Log::start();
    let folder = folder();
    let destination = Destination::new(1, defers_the_bad());
    let bench = Bench::start(folder.path(), &destination, hours());
    bench.accept_all(&every_other("a", MAX_DEFERRED), "SENT").await;
    bench.until("it is held", |snapshot| snapshot.held.is_some()).await;
    bench.eventually("all good ones are delivered", async || destination.accepted().len() == MAX_DEFERRED).await;
    // Whatever leaves room is followed by one that takes it.
    for number in 0..MAX_DEFERRED / 20 {
        let message_id = format!("bad-b-{number}");
        bench.accept(&message_id, "SENT").await;
    }
    destination.now(|id, attempt| match attempt {
        1 => Answer::TryAgainAfter(HOUR),
        2 if id.starts_with("bad-a") => Answer::Slow(Duration::from_secs(60)),
        _ => Answer::Accept,
    });
    let all = 2 * MAX_DEFERRED + MAX_DEFERRED / 20;
    bench.pass(HOUR / 60, "all are delivered", |snapshot| snapshot.delivered == all as u64).await;
    bench.drained().await;
    assert_eq!((log.times("reads no further"), log.times("reads on")), (1, 1));
    bench.stop().await;
}

#[tokio::test]
async fn a_sink_with_too_many_dead_letters_reads_no_further_until_some_are_dropped_or_retried() {
    let log = Log::start();
    let folder = folder();
    let destination = Destination::new(1, |id, _| match id.starts_with("bad") {
        true => Answer::Refuse,
        false => Answer::Accept,
    });
    let most = usize::try_from(MAX_DEAD).unwrap();
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.accept_all(&ids("bad", most), "SENT").await;
    bench.until("it is held", |snapshot| snapshot.state() == "held" && snapshot.dead == MAX_DEAD).await;
    bench.accept_all(&ids("good", 10), "SENT").await;
    bench.stop().await;

    // It is held over a restart.
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.until("it is held", |snapshot| snapshot.held.is_some()).await;
    bench.accept_all(&ids("better", 10), "SENT").await;
    assert_eq!((bench.store.places()["sink"], destination.accepted().len()), (MAX_DEAD, 0));
    assert_eq!((log.times("reads no further"), log.times("reads on")), (2, 0), "said once, and once after a restart");

    let one = DeadQuery { id: Some(1), ..DeadQuery::default() };
    assert_eq!(bench.store.drop_dead("sink", one).await.unwrap(), 1);
    bench.tell(Command::Reload).await;
    bench.drained().await;
    assert_eq!(destination.accepted().len(), 20);
    assert_eq!((bench.dead().await.len(), log.times("reads on")), (most - 1, 1));

    // What is retried is given before what comes after, and none of it is gone.
    destination.now(|_, _| Answer::Accept);
    assert_eq!(bench.revive_dead().await, most - 1);
    bench
        .until("they are all delivered", |snapshot| {
            snapshot.dead == 0 && snapshot.delivered == 20 + MAX_DEAD as u64 - 1
        })
        .await;
    bench.stop().await;
}
