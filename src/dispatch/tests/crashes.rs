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
