use serde_json::json;

use super::*;
use crate::callback;
use crate::status::Status;
use crate::store::tests::{accept, open};
use crate::store::{retention, schema};

fn body(id: &str) -> serde_json::Value {
    json!({ "type": callback::TYPE, "status": "SENT", "ids": [id] })
}

async fn read(follower: &mut Follower) -> Part {
    follower.read(|part| part).await.unwrap()
}

fn seqs(part: &Part) -> Vec<i64> {
    part.entries.iter().map(|entry| entry.seq).collect()
}

#[tokio::test]
async fn a_follower_waits_for_what_comes_after_its_place_and_is_told_when_the_store_stops() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &[]).unwrap();
    accept(&store, &body("one")).await;
    let mut follower = store.follow(Query::default(), 1);
    let part = read(&mut follower).await;
    assert_eq!((seqs(&part), part.moved_to, follower.place()), (vec![], None, 1));
    let waiting = tokio::spawn(async move {
        follower.wait().await.unwrap();
        follower
    });
    accept(&store, &body("two")).await;
    let mut follower = waiting.await.unwrap();
    assert_eq!(seqs(&read(&mut follower).await), [2]);
    accept(&store, &body("three")).await;
    store.close().await;
    assert_eq!(follower.wait().await, Ok(()), "what was stored before the stop is there to be read");
    assert_eq!(seqs(&read(&mut follower).await), [3]);
    assert_eq!(follower.wait().await, Err(Error::Stopped));
}

#[tokio::test]
async fn a_follower_is_told_what_was_deleted_before_it_read_it_and_of_a_log_that_ends_earlier() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &[]).unwrap();
    for id in ["one", "two", "three"] {
        accept(&store, &body(id)).await;
    }
    let database = folder.path().join("store.sqlite3");
    let mut others = schema::open_writer(&database).unwrap();
    others.execute("DELETE FROM change WHERE seq <= 2", []).unwrap();
    let mut follower = store.follow(Query::default(), 1);
    let part = read(&mut follower).await;
    assert_eq!((part.moved_to, seqs(&part), follower.place()), (Some(2), vec![3], 3));
    let part = read(&mut store.follow(Query::default(), 2)).await;
    assert_eq!((part.moved_to, seqs(&part)), (None, vec![3]), "what it has read is not missing");

    retention::delete_slice(&mut others, i64::MAX, None, 3).unwrap();
    let mut follower = store.follow(Query::default(), 1);
    let part = read(&mut follower).await;
    assert_eq!((part.moved_to, seqs(&part), follower.place()), (Some(3), vec![], 3));
    let mut follower = store.follow(Query::default(), 100);
    assert_eq!((read(&mut follower).await.moved_to, follower.place()), (Some(3), 3));
    accept(&store, &body("four")).await;
    assert_eq!(seqs(&read(&mut follower).await), [4]);
    store.close().await;
}

#[tokio::test]
async fn numbers_without_a_change_are_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &[]).unwrap();
    for id in ["one", "two", "three"] {
        accept(&store, &body(id)).await;
    }
    let others = schema::open_writer(&folder.path().join("store.sqlite3")).unwrap();
    others.execute("DELETE FROM change WHERE seq >= 2", []).unwrap();
    others.execute("UPDATE last_seq SET seq = 3", []).unwrap();
    let mut follower = store.follow(Query::default(), 1);
    let part = read(&mut follower).await;
    assert_eq!((part.moved_to, seqs(&part), follower.place()), (None, vec![], 3));
    store.close().await;
}

#[tokio::test]
async fn a_part_is_bounded_whatever_the_log_holds() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &[]).unwrap();
    let ids: Vec<String> = (0..250).map(|number| format!("m{number}")).collect();
    accept(&store, &json!({ "type": callback::TYPE, "status": "SENT", "ids": ids })).await;
    let mut follower = store.follow(Query::default(), 0);
    let mut parts = Vec::new();
    while follower.place() < 250 {
        let part = read(&mut follower).await;
        parts.push((part.entries.len(), part.is_last));
    }
    assert_eq!(parts, [(100, false), (100, false), (50, true)]);
    for id in ["large", "larger"] {
        let mut body = body(id);
        body["more"] = "x".repeat(MAX_BYTES).into();
        accept(&store, &body).await;
    }
    assert_eq!(seqs(&read(&mut follower).await), [251], "one at a time, when one is that large");

    let query = Query { status: Some(Status::new("READ")), ..Query::default() };
    let mut follower = store.follow(query, 0);
    assert_eq!((read(&mut follower).await.entries.len(), follower.place()), (0, 252));
    store.close().await;
}
