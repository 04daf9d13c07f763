use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::callback;
use crate::status::{Rank, Transition};

pub(super) fn open(folder: &std::path::Path, sinks: &[(String, Start)]) -> Result<Store, OpenError> {
    Store::open(&Sqlite { path: folder.to_owned(), ..Sqlite::default() }, sinks, 100)
}

pub(super) async fn accept(store: &Store, body: &serde_json::Value) -> Receipt {
    let callback = callback::parse(body.to_string().as_bytes()).expect("a valid callback");
    store.accept(callback, Timestamp::now(), store.admit().expect("a free slot")).await.expect("it is stored")
}

async fn all(store: &Store) -> Vec<Entry> {
    store.changes(Query::default(), 0, usize::MAX).await.expect("it can be read").entries
}

#[tokio::test]
async fn a_newer_or_a_foreign_database_is_refused_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), &[]).unwrap().close().await;
    let database = folder.path().join("store.sqlite3");
    Connection::open(&database).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = open(folder.path(), &[]).unwrap_err();
    assert!(matches!(error, OpenError::Newer { version: 99, .. }), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("store.sqlite3");
    Connection::open(&database).unwrap().execute("CREATE TABLE other (x)", []).unwrap();
    let error = open(folder.path(), &[]).unwrap_err();
    assert!(matches!(error, OpenError::Foreign(_)), "{error}");
}

#[tokio::test]
async fn a_sequence_number_is_never_given_twice_even_when_the_log_was_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let body = |id: &str| json!({ "type": callback::TYPE, "status": "SENT", "ids": [id] });
    let store = open(folder.path(), &[]).unwrap();
    accept(&store, &body("one")).await;
    accept(&store, &body("two")).await;
    store.close().await;
    drop(store);
    let mut connection = schema::open_writer(&folder.path().join("store.sqlite3")).unwrap();
    assert_eq!(retention::delete_slice(&mut connection, i64::MAX, None, 2).unwrap(), 2);
    let messages: i64 = connection.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap();
    assert_eq!(messages, 0, "what was seen of a message goes with the last of its changes");
    drop(connection);
    let store = open(folder.path(), &[]).unwrap();
    accept(&store, &body("three")).await;
    assert_eq!(all(&store).await.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [3]);
    store.close().await;
}

#[tokio::test]
async fn a_slice_of_retention_never_parts_a_callback_from_its_text() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &[]).unwrap();
    accept(&store, &json!({ "type": callback::TYPE, "status": "SENT", "ids": ["a"] })).await;
    accept(&store, &json!({ "type": callback::TYPE, "status": "SENT", "ids": ["b", "c", "d"] })).await;
    store.close().await;
    drop(store);
    let mut connection = schema::open_writer(&folder.path().join("store.sqlite3")).unwrap();
    // A sink stands in the middle of the second callback.
    assert_eq!(retention::delete_slice(&mut connection, 3, None, 4).unwrap(), 1);
    assert_eq!(retention::delete_slice(&mut connection, 3, None, 4).unwrap(), 0);
    drop(connection);
    let store = open(folder.path(), &[]).unwrap();
    let kept = all(&store).await;
    assert_eq!(kept.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [2, 3, 4]);
    let cut: serde_json::Value = serde_json::from_str(kept[2].change.callback.get()).unwrap();
    assert_eq!(cut["ids"], json!(["d"]));
    store.close().await;
}

#[tokio::test]
async fn a_feed_gives_what_comes_after_its_place_and_remembers_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let sinks = [("early".to_owned(), Start::Now)];
    let store = open(folder.path(), &sinks).unwrap();
    accept(&store, &json!({ "type": callback::TYPE, "status": "SENT", "ids": ["a", "b"] })).await;
    let mut feed = store.feed("early").unwrap();
    feed.wait_beyond(0).await.unwrap();
    assert_eq!(feed.read(0).await.unwrap().len(), 2);
    feed.done(1);
    assert!(store.feed("unknown").is_none());
    store.close().await;
    drop((store, feed));

    let sinks = [("early", Start::Now), ("now", Start::Now), ("beginning", Start::Beginning)];
    let store = open(folder.path(), &sinks.map(|(name, start)| (name.to_owned(), start))).unwrap();
    let places: Vec<_> = store.places().into_iter().collect();
    assert_eq!(places, [("beginning".to_owned(), 0), ("early".to_owned(), 1), ("now".to_owned(), 2)]);
    store.close().await;
}

#[tokio::test]
async fn one_old_change_among_young_ones_does_not_take_them_along() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &[]).unwrap();
    let now = Timestamp::now();
    for (id, age_hours) in [("first", 5), ("young", 0), ("old", 50), ("last", 0)] {
        let body = json!({ "type": callback::TYPE, "status": "SENT", "ids": [id] });
        let callback = callback::parse(body.to_string().as_bytes()).unwrap();
        let received_at = now - std::time::Duration::from_secs(age_hours * 3600);
        store.accept(callback, received_at, store.admit().unwrap()).await.unwrap();
    }
    store.close().await;
    drop(store);
    let mut connection = schema::open_writer(&folder.path().join("store.sqlite3")).unwrap();
    let an_hour_ago = now - std::time::Duration::from_secs(3600);
    assert_eq!(retention::delete_slice(&mut connection, i64::MAX, Some(an_hour_ago), 4).unwrap(), 1);
    assert_eq!(retention::delete_slice(&mut connection, i64::MAX, Some(an_hour_ago), 4).unwrap(), 0);
}

#[tokio::test]
async fn a_damaged_row_of_what_was_seen_holds_up_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &[]).unwrap();
    let body = |status: &str| json!({ "type": callback::TYPE, "status": status, "ids": ["damaged", "whole"] });
    accept(&store, &body("SENT")).await;
    let other = Connection::open(folder.path().join("store.sqlite3")).unwrap();
    other.execute("UPDATE message SET seen = x'ff' WHERE message_id = 'damaged'", []).unwrap();
    assert_eq!(accept(&store, &body("READ")).await.stored(), 2);
    let transitions: Vec<_> = all(&store).await.iter().skip(2).map(|entry| entry.change.previous).collect();
    assert_eq!(transitions, [None, Some(Rank::Sent)]);
    store.close().await;
}

#[tokio::test]
async fn a_store_whose_file_was_taken_away_acknowledges_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &[]).unwrap();
    let body = json!({ "type": callback::TYPE, "status": "SENT", "ids": ["m"] });
    accept(&store, &body).await;
    std::fs::rename(folder.path().join("store.sqlite3"), folder.path().join("elsewhere")).unwrap();
    let callback = callback::parse(body.to_string().as_bytes()).unwrap();
    let refused = store.accept(callback, Timestamp::now(), store.admit().unwrap()).await;
    assert_eq!(refused, Err(Error::Failing));
    std::fs::rename(folder.path().join("elsewhere"), folder.path().join("store.sqlite3")).unwrap();
    assert_eq!(accept(&store, &body).await.duplicates(), 1);
    store.close().await;
}

#[test]
fn an_emptied_database_beside_its_log_is_not_taken_for_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("store.sqlite3"), "").unwrap();
    std::fs::write(folder.path().join("store.sqlite3-wal"), "what is left").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _in_runtime = runtime.enter();
    let error = open(folder.path(), &[]).unwrap_err();
    assert!(matches!(error, OpenError::Emptied(_)), "{error}");
    assert_eq!(std::fs::read(folder.path().join("store.sqlite3-wal")).unwrap(), b"what is left");
}

#[tokio::test]
async fn rejected_bodies_are_bounded_and_the_oldest_go_first() {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(include_str!("schema/1.sql")).unwrap();
    let body = "x".repeat(1 << 20);
    for _ in 0..40 {
        rejected::add(&connection, &[], &body, Timestamp::UNIX_EPOCH).unwrap();
    }
    let kept: Vec<_> = rejected::list(&connection, i64::MAX, 100).unwrap().iter().map(|one| one.id).collect();
    assert_eq!(kept, (10..=40).rev().collect::<Vec<_>>());
}

/// What a change is known by, in the model: everything of the exact-duplicate rule, in the plainest form.
type Known = (Option<String>, String, String, Option<String>, Option<String>, Option<i64>, Option<i64>);

/// The slow, plain model: it looks through everything that ever came.
#[derive(Default)]
struct Model {
    known: Vec<(Known, Option<Rank>)>,
}

impl Model {
    fn take(&mut self, facts: &crate::status::Facts) -> Option<(Transition, Option<Rank>)> {
        let status = facts.status.canonical().into_owned();
        let known: Known = (
            facts.instance_id.clone(),
            facts.message_id.clone(),
            status.clone(),
            facts.phone.clone(),
            facts.participant.clone(),
            facts.device,
            facts.moment.map(Timestamp::as_millisecond),
        );
        if self.known.iter().any(|(earlier, _)| *earlier == known) {
            return None;
        }
        let of_recipient: Vec<_> = self
            .known
            .iter()
            .filter(|((instance, id, _, phone, participant, ..), _)| {
                *instance == facts.instance_id
                    && *id == facts.message_id
                    && participant.as_ref().or(phone.as_ref()) == facts.participant.as_ref().or(facts.phone.as_ref())
            })
            .collect();
        let highest = of_recipient.iter().filter_map(|(_, rank)| *rank).max();
        let was_seen = of_recipient.iter().any(|((_, _, earlier, ..), _)| *earlier == status);
        let rank = facts.status.rank();
        let transition = match rank {
            None => Transition::Unranked,
            Some(rank) if highest.is_none_or(|highest| rank > highest) => Transition::Advance,
            Some(_) if was_seen => Transition::Repeat,
            Some(_) => Transition::Late,
        };
        self.known.push((known, rank));
        Some((transition, highest))
    }
}

fn any_callback() -> impl Strategy<Value = serde_json::Value> {
    let status = prop::sample::select(vec![
        "SENT",
        "RECEIVED",
        "READ",
        "read",
        "PLAYED",
        "MESSAGE_READ",
        "READ-SELF",
        "READ_BY_ME",
        "NEW",
    ]);
    let phone = prop::sample::select(vec![None, Some("5544999999999"), Some("120363-group"), Some("status@broadcast")]);
    let participant = prop::sample::select(vec![None, Some("5544888888888"), Some("5544999999999")]);
    let instance = prop::sample::select(vec![None, Some("one"), Some("two")]);
    let ids = prop::collection::vec(prop::sample::select(vec!["m1", "m2", "m3"]), 1..4);
    (status, phone, participant, instance, ids, prop::option::of(0..2i64), prop::option::of(1..3i64)).prop_map(
        |(status, phone, participant, instance, ids, device, second)| {
            json!({
                "type": callback::TYPE, "status": status, "phone": phone, "participant": participant, "instanceId": instance,
                "ids": ids, "phoneDevice": device, "momment": second.map(|second| 1_700_000_000 + second),
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn duplicates_and_transitions_are_those_of_the_plain_model(bodies in prop::collection::vec(any_callback(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let mut store = open(folder.path(), &[]).unwrap();
            let mut model = Model::default();
            let mut expected = Vec::new();
            for (number, body) in bodies.iter().enumerate() {
                // Half-way it is opened anew: what it knows is on disk.
                if number == bodies.len() / 2 {
                    store.close().await;
                    drop(store);
                    store = open(folder.path(), &[]).unwrap();
                }
                let callback = callback::parse(body.to_string().as_bytes()).unwrap();
                let new: Vec<_> = callback.ids().iter().filter_map(|id| {
                    let facts = callback.facts(id);
                    model.take(&facts).map(|(transition, previous)| (facts.event_id(), transition, previous))
                }).collect();
                let receipt = accept(&store, body).await;
                prop_assert_eq!(receipt.stored(), new.len());
                prop_assert_eq!(receipt.duplicates(), callback.ids().len() - new.len());
                expected.extend(new);
            }
            let stored: Vec<_> =
                all(&store).await.iter().map(|entry| (entry.change.facts.event_id(), entry.change.transition, entry.change.previous)).collect();
            let ids: BTreeSet<_> = stored.iter().map(|(id, ..)| id.clone()).collect();
            prop_assert_eq!(ids.len(), stored.len(), "an event id is an event");
            prop_assert_eq!(stored, expected);
            store.close().await;
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_place_in_the_log_is_found_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &[]).unwrap();
    // Within the retention.
    let began = Timestamp::now().as_second() - 100_000;
    let time = |second: i64| Timestamp::from_second(began + second).unwrap();
    assert_eq!(store.before(time(0)).await, Ok(0));
    for thousand in 0..3 {
        let ids: Vec<_> = (0..1000).map(|number| format!("m{thousand}-{number}")).collect();
        accept(&store, &json!({ "type": callback::TYPE, "status": "SENT", "ids": ids })).await;
    }
    store.close().await;
    drop(store);
    let database = Connection::open(folder.path().join("store.sqlite3")).unwrap();
    // Number n, with sequence number n + 1, came at second 10 n; some rejected bodies were accepted later than they came.
    let times = "UPDATE change SET received_at = 1000 * (?1 + iif(seq BETWEEN 2001 AND 2100, -seq, 10 * (seq - 1)))";
    database.execute(times, [began]).unwrap();
    // Retention leaves the log to begin anywhere, and what was erased leaves gaps.
    database.execute("DELETE FROM change WHERE seq <= 10 OR seq BETWEEN 500 AND 1700", []).unwrap();
    drop(database);
    let store = open(folder.path(), &[]).unwrap();
    for (second, place) in [
        (-5000, 10),
        (0, 10),
        (100, 10),
        (101, 11),
        (200, 20),
        (4980, 498),
        (4990, 1700),
        (17000, 1700),
        (17001, 1701),
        (19990, 1999),
        (19991, 2100),
        (29990, 2999),
        (29991, 3000),
        (90000, 3000),
    ] {
        assert_eq!(store.before(time(second)).await, Ok(place), "{second}");
    }
    assert_eq!(store.count(0, 3000).await, Ok(3000 - 10 - 1201));
    assert_eq!(store.count(20, 25).await, Ok(5));
    store.close().await;
}

#[tokio::test]
async fn what_comes_in_while_somebody_is_erased_stays_and_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &[]).unwrap();
    let body =
        |status: &str| json!({ "type": callback::TYPE, "status": status, "ids": ["m"], "phone": "5544987651234" });
    accept(&store, &body("SENT")).await;
    let erasure = store.erasure(crate::phone::Number::parse("+55 44 98765-1234").unwrap(), false);
    let found = store.find_changes(&erasure).await.unwrap();
    accept(&store, &body("READ")).await;
    assert_eq!(store.erase_messages(&erasure, &found).await, Ok(1));
    assert_eq!(store.erase_changes(&erasure, &found).await, Ok((0, 1)));
    assert_eq!(all(&store).await.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [2]);
    assert_eq!(accept(&store, &body("READ")).await.duplicates(), 1);
    assert_eq!(accept(&store, &body("SENT")).await.stored(), 1);
    // Retention may be faster.
    assert_eq!(store.erase_changes(&erasure, &[1]).await, Ok((0, 0)));
    store.close().await;
}
