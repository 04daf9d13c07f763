use super::bench::*;
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

async fn forget(bench: &Bench, seqs: &[i64]) {
    bench.tell(Command::Forget(seqs.into())).await;
}

#[tokio::test]
async fn what_was_erased_is_not_given_though_it_had_been_read_already() {
    let folder = folder();
    let destination = Destination::new(1, |_, _| Answer::AwayAfter(HOUR));
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.accept_all(&ids("m", 6), "SENT").await;
    bench.until("it is away", |snapshot| snapshot.away_since.is_some()).await;
    forget(&bench, &[1, 3, 6]).await;
    destination.now(|_, _| Answer::Accept);
    bench.tell(Command::Resume).await;
    bench.drained().await;
    let mut accepted = destination.accepted();
    accepted.sort_unstable();
    assert_eq!(accepted, [2, 4, 5]);
    bench.stop().await;
}

#[tokio::test]
async fn an_attempt_under_way_at_what_was_erased_leaves_nothing_when_it_fails() {
    let folder = folder();
    let destination = Destination::new(10, |_, _| Answer::HoldAndRefuse);
    let bench = Bench::start(folder.path(), &destination, DeliveryConfig { concurrency: Some(1), ..quick() });
    bench.accept_all(&ids("m", 3), "SENT").await;
    bench.eventually("they are under way", async || destination.calls() == [1]).await;
    forget(&bench, &[1, 2]).await;
    destination.now(|_, _| Answer::Accept);
    destination.let_go();
    bench.drained().await;
    assert_eq!((destination.calls(), destination.accepted()), (vec![1, 3], vec![3]));
    assert_eq!((bench.dead().await, bench.standing.snapshot().dead), (vec![], 0));
    bench.stop().await;
}

#[tokio::test]
async fn what_was_erased_is_not_tried_again() {
    let folder = folder();
    let again = |id: &str, _: u32| if id < "m-2" { Answer::TryAgainAfter(HOUR) } else { Answer::Accept };
    let destination = Destination::new(1, again);
    let backoff = Backoff { min: HOUR, max: HOUR };
    let bench = Bench::start(folder.path(), &destination, DeliveryConfig { backoff, ..quick() });
    bench.accept_all(&ids("m", 3), "SENT").await;
    bench.accept("m-0", "READ").await;
    bench.until("three wait, one of them behind another", |snapshot| snapshot.deferred == 3).await;
    forget(&bench, &[1, 4]).await;
    let waiting = || async { bench.deferred().await.into_iter().map(|deferred| deferred.seq).collect::<Vec<_>>() };
    assert_eq!((waiting().await, bench.standing.snapshot().deferred), (vec![2], 1));
    destination.now(|_, _| Answer::Accept);
    // Its message is not held up by what was erased of it.
    bench.accept("m-0", "PLAYED").await;
    bench.eventually("it is given", async || destination.accepted().contains(&5)).await;
    assert_eq!(waiting().await, [2]);
    bench.stop().await;
}

#[tokio::test]
async fn a_retry_under_way_at_what_was_erased_is_the_last() {
    let folder = folder();
    let destination = Destination::new(1, |_, attempt| match attempt {
        1 => Answer::TryAgain,
        _ => Answer::HoldAndRefuse,
    });
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.accept("m", "SENT").await;
    bench.eventually("it is tried again", async || destination.calls() == [1, 1]).await;
    forget(&bench, &[1]).await;
    destination.let_go();
    bench.drained().await;
    assert_eq!((bench.dead().await, bench.standing.snapshot().deferred), (vec![], 0));
    bench.stop().await;
}

#[tokio::test]
async fn a_replay_leaves_out_what_was_erased() {
    let folder = folder();
    let destination = Destination::new(1, |_, _| Answer::Accept);
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.accept_all(&ids("m", 5), "SENT").await;
    bench.drained().await;
    destination.now(|_, _| Answer::HoldAndRefuse);
    bench.tell(Command::Replay(Replay { position: 0, until: 5, rate: 10_000.0, delivered: 0 })).await;
    bench.eventually("its first one is under way", async || destination.calls().len() == 6).await;
    forget(&bench, &[1, 3, 4]).await;
    destination.now(|_, _| Answer::Accept);
    destination.let_go();
    bench.until("it has ended", |snapshot| snapshot.last_replay.is_some()).await;
    assert_eq!((destination.accepted().split_off(5), bench.dead().await), (vec![2, 5], vec![]));
    bench.stop().await;
}
