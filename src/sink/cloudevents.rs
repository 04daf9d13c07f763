//! A change as a CloudEvents 1.0 event in binary mode: its attributes travel beside the body.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::status::StatusChange;

/// What the HTTP and NATS bindings have encoded in a header's value, besides all that is not ASCII.
const IN_HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// What is encoded in one segment of a URI's path.
const IN_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The attributes, by name, of the change with this event id. `datacontenttype` is not among them: the mode has the transport's own
/// content type for it.
///
/// `partitionkey` is the extension of that name: all changes of one message have the same.
pub(super) fn attributes(change: &StatusChange, id: &str) -> [(&'static str, String); 7] {
    let facts = &change.facts;
    let instance = facts.instance_id.as_deref().unwrap_or_default();
    let source = format!("/plugchat-receiver/{}", utf8_percent_encode(instance, IN_SEGMENT));
    [
        ("specversion", "1.0".to_owned()),
        ("id", id.to_owned()),
        ("source", source),
        ("type", "message.status".to_owned()),
        ("time", facts.moment.unwrap_or(change.received_at).to_string()),
        ("subject", facts.message_id.clone()),
        ("partitionkey", facts.message_id.clone()),
    ]
}

/// The attributes as headers of the HTTP and NATS bindings, their values encoded.
pub(super) fn headers(change: &StatusChange, id: &str) -> [(String, String); 7] {
    attributes(change, id)
        .map(|(name, value)| (format!("ce-{name}"), utf8_percent_encode(&value, IN_HEADER).to_string()))
}
