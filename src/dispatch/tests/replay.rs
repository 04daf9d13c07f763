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
