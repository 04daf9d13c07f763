//! What is in a stream afterwards.

use std::collections::HashMap;

use super::destination::Destination;
use crate::sink::conformance::{Give as _, delivery};

#[tokio::test]
async fn an_entry_has_the_change_under_names_that_stay() {
    let destination = Destination::start();
    let change = delivery("m");
    destination.sink("").give(std::slice::from_ref(&change)).await.unwrap();
    destination.sink("body = \"callback\"").give(std::slice::from_ref(&change)).await.unwrap();
    let event = serde_json::to_string(&change.change).unwrap();
    let expected = [event.as_str(), change.change.callback.get()].map(|body| {
        let id = change.change.facts.event_id();
        let fields = [("id", id.as_str()), ("status", "READ"), ("message_id", "m"), ("body", body)];
        HashMap::from(fields.map(|(name, value)| (name.to_owned(), value.to_owned())))
    });
    assert_eq!(destination.entries("changes"), expected);
}

#[tokio::test]
async fn a_stream_is_trimmed_to_about_the_length_that_is_asked_for() {
    let destination = Destination::start_with("stream-node-max-entries 10");
    let changes: Vec<_> = (0..200).map(|number| delivery(&number.to_string())).collect();
    destination.sink("max_length = 50").give(&changes).await.unwrap();
    let left = destination.message_ids("changes");
    assert!((50..=60).contains(&left.len()), "{}", left.len());
    assert_eq!(left.last().map(String::as_str), Some("199"), "the oldest go first");
}
