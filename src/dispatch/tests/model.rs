use proptest::prelude::*;

use super::bench::*;
use super::*;

/// What the model's destination does next, whatever the change.
fn any_answers() -> impl Strategy<Value = Vec<Answer>> {
    let answer = prop_oneof![
        6 => Just(Answer::Accept),
        1 => Just(Answer::Refuse),
        3 => Just(Answer::TryAgain),
        1 => Just(Answer::Away),
    ];
    prop::collection::vec(answer, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Random failures, crashes and restarts: whatever happens, every stored change is delivered or dead in the end, and those
    /// of one message were accepted for the first time in the order stored.
    #[test]
    fn no_change_is_ever_gone_and_each_message_keeps_its_order(
        answers in any_answers(),
        messages in prop::collection::vec(0..6u8, 1..60),
        crashes in prop::collection::vec(0..60usize, 0..4),
        batch in prop::sample::select(vec![1usize, 7, 100]),
        gives_up in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = folder();
            let turn = std::sync::atomic::AtomicUsize::new(0);
            let destination = Destination::with(batch, gives_up, move |_, _| {
                let turn = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                // After its script it accepts everything.
                answers.get(turn).copied().unwrap_or(Answer::Accept)
            });
            let mut bench = Bench::start(folder.path(), &destination, quick());
            for (number, message) in messages.iter().enumerate() {
                if crashes.contains(&number) {
                    bench.crash().await;
                    bench = Bench::start(folder.path(), &destination, quick());
                }
                bench.accept(&format!("m{message}"), &format!("STATUS{number}")).await;
            }
            bench.drained().await;
            let stored = bench.store.changes(Query::default(), 0, 1000).await.unwrap().entries;
            prop_assert_eq!(stored.len(), messages.len());
            let dead: BTreeSet<i64> = bench.dead().await.into_iter().map(|(seq, _)| seq).collect();
            let accepted: BTreeSet<i64> = destination.accepted().into_iter().collect();
            let all: BTreeSet<i64> = stored.iter().map(|entry| entry.seq).collect();
            prop_assert_eq!(accepted.union(&dead).copied().collect::<BTreeSet<_>>(), all);
            let mut first_time: BTreeMap<String, Vec<i64>> = BTreeMap::new();
            for (message, seq) in destination.seen.lock().unwrap().accepted.iter() {
                let order = first_time.entry(message.clone()).or_default();
                if !order.contains(seq) {
                    order.push(*seq);
                }
            }
            for order in first_time.values() {
                prop_assert!(order.is_sorted(), "{order:?}");
            }
            bench.stop().await;
            Ok(())
        })?;
    }
}
