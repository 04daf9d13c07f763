//! A change's attributes as the headers of CloudEvents 1.0 in binary mode.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::status::StatusChange;

/// What the HTTP binding has encoded in a header's value, besides all that is not ASCII.
const IN_HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// What is encoded in one segment of a URI's path.
const IN_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The headers, by name. `Content-Type`, which the mode has for `datacontenttype`, is sent with every request anyhow.
pub(super) fn headers(change: &StatusChange, id: &str) -> [(&'static str, String); 6] {
    let facts = &change.facts;
    let instance = facts.instance_id.as_deref().unwrap_or_default();
    let source = format!("/plugchat-receiver/{}", utf8_percent_encode(instance, IN_SEGMENT));
    let in_header = |text: &str| utf8_percent_encode(text, IN_HEADER).to_string();
    [
        ("ce-specversion", "1.0".to_owned()),
        ("ce-id", id.to_owned()),
        ("ce-source", in_header(&source)),
        ("ce-type", "message.status".to_owned()),
        ("ce-time", facts.moment.unwrap_or(change.received_at).to_string()),
        ("ce-subject", in_header(&facts.message_id)),
    ]
}
