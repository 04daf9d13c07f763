//! What every sink promises, tried on each: the contract of [`Sink`] as a suite.
//!
//! A sink joins by a [`Destination`] of its kind and a line with [`promises!`] in its tests.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use super::{Delivery, Failure, FailureKind, Sink};
use crate::status::{Facts, Rank, Status, StatusChange, Transition};

/// The destination of a sink that is tried. It takes everything, unless it is told otherwise.
#[async_trait]
pub(super) trait Destination: Send {
    /// A new one, which has taken nothing.
    async fn start() -> Self
    where
        Self: Sized;

    /// A sink that delivers to it.
    fn sink(&self) -> Arc<dyn Sink>;

    /// The message ids of all that it has taken, in order.
    async fn taken(&mut self) -> Vec<String>;

    /// Takes so many more changes, fails with the next one in a way that passes, and takes everything again.
    async fn fail_after(&mut self, changes: usize);

    /// A change that it refuses for good when it is given after so many others; `None` when destinations of this kind refuse nothing.
    fn refused_after(&mut self, changes: usize) -> Option<Delivery>;

    /// Can't be reached.
    async fn go_away(&mut self);

    /// Can be reached again.
    async fn come_back(&mut self);
}

/// All or nothing: what tests want.
pub(super) trait Give: Sink {
    /// Gives changes; the first failure, if there is one.
    async fn give(&self, changes: &[Delivery]) -> Result<(), Failure> {
        let outcomes = self.deliver(changes).await;
        assert!(outcomes.len() <= changes.len(), "{outcomes:?}");
        let is_whole = outcomes.len() == changes.len();
        outcomes.into_iter().collect::<Result<(), _>>()?;
        assert!(is_whole, "without a failure each has an outcome");
        Ok(())
    }
}

impl<S: Sink + ?Sized> Give for S {}

/// The whole suite as tests, for a destination of this type.
macro_rules! promises {
    ($destination:ty) => {
        $crate::sink::conformance::promises! { $destination:
            accepted_means_accepted,
            nothing_is_given_twice_without_a_failure,
            what_was_accepted_in_spite_of_a_failure_is_told_and_the_rest_follows,
            a_change_that_is_refused_is_told_apart_and_holds_up_nothing,
            a_destination_that_is_away_is_told_apart_until_it_is_back,
            a_delivery_can_be_cancelled_anywhere_and_made_again,
            deliveries_at_once_do_not_mix,
            a_failure_of_one_delivery_is_no_other_ones,
        }
    };
    ($destination:ty: $($promise:ident,)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                let mut destination = <$destination as $crate::sink::conformance::Destination>::start().await;
                $crate::sink::conformance::$promise(&mut destination).await;
            }
        )*
    };
}
pub(super) use promises;

pub(super) async fn accepted_means_accepted(destination: &mut impl Destination) {
    let sink = destination.sink();
    let mut given = Vec::new();
    for (batch, size) in [1, 2, 7, 100].into_iter().enumerate() {
        let changes = changes(&format!("batch-{batch}"), size);
        sink.give(&changes).await.unwrap();
        given.extend(ids(&changes));
        assert_eq!(destination.taken().await, given, "as soon as it is told, all of it and in order");
    }
}

pub(super) async fn nothing_is_given_twice_without_a_failure(destination: &mut impl Destination) {
    let sink = destination.sink();
    assert!(sink.deliver(&[]).await.is_empty());
    let changes = changes("m", 50);
    for change in &changes {
        sink.give(std::slice::from_ref(change)).await.unwrap();
    }
    // What is given again on purpose is another thing: it may arrive again.
    sink.give(&changes[..1]).await.unwrap();
    let taken = destination.taken().await;
    assert_eq!(first_arrivals(&taken), ids(&changes));
    assert!(taken.len() <= changes.len() + 1, "{taken:?}");
}

pub(super) async fn what_was_accepted_in_spite_of_a_failure_is_told_and_the_rest_follows(
    destination: &mut impl Destination,
) {
    let sink = destination.sink();
    let mut given = HashSet::new();
    for before in [0, 1, 4, 9] {
        let changes = changes(&format!("after-{before}"), 10);
        destination.fail_after(before).await;
        let outcomes = sink.deliver(&changes).await;
        assert!(outcomes.len() <= changes.len());
        let failures: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert!(!failures.is_empty(), "one fails");
        assert!(failures.iter().all(|failure| passes(failure)), "{failures:?}");
        let taken = destination.taken().await;
        let (accepted, rest) = parted(&changes, &outcomes);
        assert!(
            ids(&accepted).iter().all(|id| taken.contains(id)),
            "what was accepted is there: {outcomes:?} {taken:?}"
        );
        go_on(sink.as_ref(), &rest).await;
        given.extend(ids(&changes));
        assert_eq!(destination.taken().await.into_iter().collect::<HashSet<_>>(), given, "all of it");
    }
}

pub(super) async fn a_change_that_is_refused_is_told_apart_and_holds_up_nothing(destination: &mut impl Destination) {
    let sink = destination.sink();
    let mut given = Vec::new();
    for before in [0, 1, 9] {
        let mut changes = changes(&format!("after-{before}"), 10);
        let Some(refused) = destination.refused_after(before) else { return };
        changes[before] = refused;
        let outcomes = sink.deliver(&changes).await;
        let kind = outcomes[before].as_ref().map_err(|failure| failure.kind);
        assert_eq!(kind, Err(FailureKind::Refused), "{outcomes:?}");
        let failures = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        assert_eq!(failures, 1, "no other one fails: {outcomes:?}");
        sink.give(&changes[outcomes.len()..]).await.unwrap();
        changes.remove(before);
        given.extend(ids(&changes));
        given.sort();
        let mut taken = destination.taken().await;
        taken.sort();
        assert_eq!(taken, given, "all but that one, each once");
    }
}

pub(super) async fn a_destination_that_is_away_is_told_apart_until_it_is_back(destination: &mut impl Destination) {
    let sink = destination.sink();
    let before = changes("before", 3);
    sink.give(&before).await.unwrap();
    destination.go_away().await;
    let changes = changes("m", 3);
    // A connection that was open may have to break first.
    let mut failures = Vec::new();
    while !failures.last().is_some_and(is_away) {
        assert!(failures.len() < 5, "it is not told that the destination is away: {failures:?}");
        failures.push(first_failure(sink.as_ref(), &changes).await);
    }
    failures.push(first_failure(sink.as_ref(), &changes).await);
    assert!(failures.last().is_some_and(is_away), "{failures:?}");
    assert!(is_away(&first_failure(destination.sink().as_ref(), &changes).await), "anew, too");
    destination.come_back().await;
    go_on(sink.as_ref(), &changes).await;
    assert_eq!(destination.taken().await, [ids(&before), ids(&changes)].concat(), "and nothing came while it was away");
}

pub(super) async fn a_delivery_can_be_cancelled_anywhere_and_made_again(destination: &mut impl Destination) {
    let sink = destination.sink();
    let mut given = HashSet::new();
    for polls in 1.. {
        assert!(polls < 1000, "it never ends");
        let changes = changes(&format!("polls-{polls}"), 4);
        let whole = poll_times(polls, sink.deliver(&changes)).await;
        if let Some(outcomes) = &whole {
            assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        }
        sink.give(&changes).await.unwrap();
        given.extend(ids(&changes));
        let taken = destination.taken().await.into_iter().collect::<HashSet<_>>();
        assert_eq!(taken, given, "cancelled after {polls} polls");
        if whole.is_some() {
            break;
        }
    }
}

pub(super) async fn deliveries_at_once_do_not_mix(destination: &mut impl Destination) {
    let batches = give_at_once(destination).await;
    let taken = destination.taken().await;
    assert_eq!(taken.len(), batches.iter().map(Vec::len).sum::<usize>(), "each once");
    for batch in batches {
        let of_this: Vec<_> = taken.iter().filter(|id| batch.contains(id)).cloned().collect();
        assert_eq!(of_this, batch, "each in order");
    }
}

pub(super) async fn a_failure_of_one_delivery_is_no_other_ones(destination: &mut impl Destination) {
    destination.fail_after(7).await;
    let batches = give_at_once(destination).await;
    let taken = destination.taken().await.into_iter().collect::<HashSet<_>>();
    assert_eq!(taken, batches.concat().into_iter().collect());
}

/// Gives several batches at once, each to its end; what was in each.
async fn give_at_once(destination: &impl Destination) -> Vec<Vec<String>> {
    let sink = destination.sink();
    let batches: Vec<_> = (0..8).map(|batch| changes(&format!("batch-{batch}"), 10)).collect();
    let mut deliveries = JoinSet::new();
    for batch in batches.clone() {
        let sink = Arc::clone(&sink);
        deliveries.spawn(async move { go_on(sink.as_ref(), &batch).await });
    }
    deliveries.join_all().await;
    batches.iter().map(|batch| ids(batch)).collect()
}

/// Gives changes, none of which is accepted; why the first is not.
pub(super) async fn first_failure(sink: &dyn Sink, changes: &[Delivery]) -> Failure {
    let mut outcomes = sink.deliver(changes).await;
    assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
    outcomes.swap_remove(0).expect_err("they all are")
}

/// Gives changes as a drain does: after a failure, those that were not accepted again.
async fn go_on(sink: &dyn Sink, changes: &[Delivery]) {
    let mut rest = changes.to_vec();
    for _ in 0..20 {
        rest = parted(&rest, &sink.deliver(&rest).await).1;
        if rest.is_empty() {
            return;
        }
    }
    panic!("it fails again and again");
}

/// Those that were accepted, and the others.
fn parted(changes: &[Delivery], outcomes: &[Result<(), Failure>]) -> (Vec<Delivery>, Vec<Delivery>) {
    let is_ok = |index: usize| outcomes.get(index).is_some_and(Result::is_ok);
    let (accepted, rest): (Vec<_>, Vec<_>) = changes.iter().cloned().enumerate().partition(|(index, _)| is_ok(*index));
    let without_index = |part: Vec<(usize, Delivery)>| part.into_iter().map(|(_, change)| change).collect();
    (without_index(accepted), without_index(rest))
}

fn passes(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::TryAgain { .. } | FailureKind::Away { .. })
}

fn is_away(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::Away { .. })
}

/// What comes of it when it is polled at most so often; `None` when it would take more.
async fn poll_times<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut polls) = (Box::pin(future), 0);
    std::future::poll_fn(move |context| {
        polls += 1;
        match future.as_mut().poll(context) {
            std::task::Poll::Pending if polls < times => std::task::Poll::Pending,
            std::task::Poll::Pending => std::task::Poll::Ready(None),
            std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
        }
    })
    .await
}

/// Each as it first came.
fn first_arrivals(taken: &[String]) -> Vec<String> {
    let mut seen = HashSet::new();
    taken.iter().filter(|id| seen.insert(id.as_str())).cloned().collect()
}

fn ids(changes: &[Delivery]) -> Vec<String> {
    changes.iter().map(|delivery| delivery.change.facts.message_id.clone()).collect()
}

/// Changes of so many messages.
fn changes(prefix: &str, count: usize) -> Vec<Delivery> {
    (0..count).map(|number| delivery(&format!("{prefix}-{number}"))).collect()
}

/// A change of the message with this id.
pub(crate) fn delivery(message_id: &str) -> Delivery {
    let id = serde_json::Value::from(message_id);
    let callback = format!(r#"{{"type":"MessageStatusCallback", "ids":[{id}],"unknown":[1.50]}}"#);
    let change = StatusChange {
        facts: Facts {
            instance_id: Some("instance.id".into()),
            message_id: message_id.into(),
            status: Status::new("READ"),
            phone: Some("5544999999999".into()),
            participant: None,
            device: Some(0),
            moment: Timestamp::from_millisecond(1_632_234_645_000).ok(),
        },
        is_group: false,
        received_at: "2026-11-22T12:00:00.123Z".parse().unwrap(),
        transition: Transition::Advance,
        previous: Some(Rank::Received),
        since_previous_ms: None,
        callback: RawValue::from_string(callback).unwrap(),
    };
    Delivery { seq: 1, change }
}
