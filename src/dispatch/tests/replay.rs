use super::bench::*;
use super::*;

#[tokio::test]
async fn a_replay_gives_the_same_changes_again_beside_fresh_ones() {
    let folder = folder();
    let destination = Destination::new(10, |_, _| Answer::Accept);
    let bench = Bench::start(folder.path(), &destination, quick());
    for number in 0..30 {
        bench.accept(&format!("m{number}"), "SENT").await;
    }
    bench.drained().await;
    bench.tell(Command::Replay(Replay { position: 5, until: 25, rate: 10_000.0, delivered: 0 })).await;
    bench
        .until("the replay has begun or is over", |snapshot| snapshot.replay.is_some() || snapshot.delivered == 50)
        .await;
    bench.accept("fresh", "SENT").await;
    bench.until("all is delivered", |snapshot| snapshot.delivered == 51 && snapshot.replay.is_none()).await;
    let mut again: Vec<_> = destination.accepted().split_off(30);
    again.sort_unstable();
    assert_eq!(again, (6..=25).chain([31]).collect::<Vec<_>>());
    bench.stop().await;
}

/// Everything of the log, as fast as it goes.
fn whole(bench: &Bench) -> Command {
    Command::Replay(Replay { position: 0, until: bench.store.latest(), rate: 10_000.0, delivered: 0 })
}

#[tokio::test]
async fn a_replay_waits_for_a_destination_that_is_away_and_probes_it_when_nothing_else_does() {
    let folder = folder();
    let destination = Destination::new(10, |_, _| Answer::Accept);
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.accept_all(&ids("m", 30), "SENT").await;
    bench.drained().await;
    destination.now(|_, _| Answer::Away);
    bench.tell(whole(&bench)).await;
    bench.until("it is away", |snapshot| snapshot.away_since.is_some()).await;
    bench.until("it is probed", |snapshot| snapshot.failed > 5).await;
    destination.now(|_, _| Answer::Accept);
    bench.until("the replay has ended", |snapshot| snapshot.delivered == 60 && snapshot.replay.is_none()).await;
    assert_eq!(destination.accepted().split_off(30), (1..=30).collect::<Vec<_>>());
    bench.stop().await;
}

#[tokio::test]
async fn a_replay_goes_on_over_a_restart_from_what_was_done() {
    let folder = folder();
    let destination = Destination::new(1, |_, _| Answer::Accept);
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.accept_all(&ids("m", 30), "SENT").await;
    bench.drained().await;
    destination.now(|id, _| if id == "m-15" { Answer::Hang } else { Answer::Accept });
    bench.tell(whole(&bench)).await;
    let replay = async || bench.store.feed("sink").unwrap().replay().await.unwrap();
    bench.eventually("half of it is done", async || replay().await.is_some_and(|replay| replay.position == 15)).await;
    bench.eventually("the next one is under way", async || destination.calls().len() == 46).await;
    bench.crash().await;

    destination.now(|_, _| Answer::Accept);
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.until("it goes on", |snapshot| snapshot.delivered > 0).await;
    let replay = async || bench.store.feed("sink").unwrap().replay().await.unwrap();
    bench.eventually("it has ended", async || replay().await.is_none()).await;
    assert_eq!(destination.accepted().split_off(30), (1..=30).collect::<Vec<_>>(), "each once more and in order");
    bench.stop().await;

    let bench = Bench::start(folder.path(), &destination, quick());
    bench.accept("fresh", "SENT").await;
    bench.drained().await;
    assert_eq!(destination.accepted().len(), 61, "it does not begin again");
    bench.stop().await;
}

#[tokio::test]
async fn a_replay_that_is_cancelled_gives_no_more_and_does_not_go_on_after_a_restart() {
    let folder = folder();
    let destination = Destination::new(1, |_, _| Answer::Accept);
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.accept_all(&ids("m", 30), "SENT").await;
    bench.drained().await;
    destination.now(|id, _| if id == "m-15" { Answer::Hold } else { Answer::Accept });
    bench.tell(whole(&bench)).await;
    bench.eventually("half of it is given", async || destination.calls().len() == 46).await;
    bench.tell(Command::CancelReplay).await;
    bench.until("it is cancelled", |snapshot| snapshot.replay.is_none()).await;
    destination.let_go();
    bench.until("what was under way is delivered", |snapshot| snapshot.delivered == 46).await;
    bench.stop().await;

    let bench = Bench::start(folder.path(), &destination, quick());
    bench.accept("fresh", "SENT").await;
    bench.drained().await;
    assert_eq!(destination.accepted().split_off(46), [31]);
    bench.stop().await;
}

#[tokio::test]
async fn what_a_replay_finds_refused_again_is_one_dead_letter_still() {
    let folder = folder();
    let destination = Destination::with(10, false, |id, _| if id == "m-3" { Answer::Refuse } else { Answer::Accept });
    let bench = Bench::start(folder.path(), &destination, quick());
    bench.accept_all(&ids("m", 10), "SENT").await;
    bench.drained().await;
    bench.tell(whole(&bench)).await;
    bench.until("the replay has ended", |snapshot| snapshot.delivered == 18 && snapshot.replay.is_none()).await;
    bench.until("it is counted as one", |snapshot| snapshot.dead == 1).await;
    assert_eq!(bench.dead().await, [(4, "refused".to_owned())]);
    bench.stop().await;
}

#[tokio::test]
async fn a_replay_stands_before_what_its_destination_did_not_take_although_it_took_what_came_after() {
    let folder = folder();
    let destination = Destination::new(10, |_, _| Answer::Accept);
    let bench = Bench::start(folder.path(), &destination, DeliveryConfig { concurrency: Some(1), ..quick() });
    bench.accept_all(&ids("m", 10), "SENT").await;
    bench.drained().await;
    bench.stop().await;
    let once = std::sync::atomic::AtomicBool::new(true);
    let again = Destination::with(10, false, move |id, _| {
        let is_first = id == "m-3" && once.swap(false, std::sync::atomic::Ordering::Relaxed);
        if is_first { Answer::Away } else { Answer::Accept }
    });
    let bench = Bench::start(folder.path(), &again, DeliveryConfig { concurrency: Some(1), ..quick() });
    bench.tell(whole(&bench)).await;
    bench.until("the replay has ended", |snapshot| snapshot.last_replay.is_some()).await;
    let taken: BTreeSet<i64> = again.accepted().into_iter().collect();
    assert_eq!(taken, (1..=10).collect());
    bench.stop().await;
}
