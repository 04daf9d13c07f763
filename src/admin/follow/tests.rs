use serde_json::json;

use super::*;
use crate::callback;
use crate::status::Status;
use crate::store::{Query, Sqlite, Store};

fn following(store: &Store, query: Query) -> Following {
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    Following::new(store.follow(query, 0), permit)
}

async fn accept(store: &Store, id: &str) {
    let body = json!({ "type": callback::TYPE, "status": "SENT", "ids": [id] }).to_string();
    let callback = callback::parse(body.as_bytes()).unwrap();
    store.accept(callback, jiff::Timestamp::now(), store.admit().unwrap()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_follower_hears_a_heartbeat_every_ten_seconds_with_the_place_that_it_has_come_to() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&Sqlite { path: folder.path().to_owned(), ..Sqlite::default() }, &[], 100).unwrap();
    let mut all = following(&store, Query::default());
    let mut none = following(&store, Query { status: Some(Status::new("READ")), ..Query::default() });
    for following in [&mut all, &mut none] {
        assert_eq!(following.next().await.unwrap(), "retry: 1000\nid: 0\n\n", "its place comes at once");
    }
    for (id, place) in [(None, 0), (None, 0), (Some("A"), 1), (Some("B"), 2)] {
        if let Some(id) = id {
            accept(&store, id).await;
            let block = all.next().await.unwrap();
            assert!(block.starts_with(format!("id: {place}\nevent: change\ndata: ").as_bytes()), "{block:?}");
        }
        let begun = Instant::now();
        assert_eq!(none.next().await.unwrap(), format!(": alive\nid: {place}\n\n"));
        assert_eq!(begun.elapsed().as_secs(), 10);
    }
    store.close().await;
    assert_eq!((all.next().await, none.next().await), (None, None), "the stream ends with the store");
}

#[test]
fn a_stream_is_for_those_who_accept_one() {
    for (accepted, is_stream) in [
        ("text/event-stream", true),
        ("application/json, Text/Event-Stream;q=0.9", true),
        ("application/json", false),
        ("*/*", false),
        ("text/event-stream-of-mine", false),
    ] {
        let headers = HeaderMap::from_iter([(header::ACCEPT, accepted.parse().unwrap())]);
        assert_eq!(is_asked_for(&headers), is_stream, "{accepted}");
    }
    assert!(!is_asked_for(&HeaderMap::new()));
}
