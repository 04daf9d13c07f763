//! What the server's words mean.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::{Message, StatusCode};

use crate::sink::FailureKind;

/// What was answered to a message.
pub(super) enum Answer {
    /// A stream has it, or had it already.
    Stored,
    /// The stream did not take it, for this reason, in the server's words.
    NotStored(FailureKind, String),
    /// Nobody listens on the subject: there is no stream for it, or one without a leader.
    NobodyThere,
    /// Something that is no stream's answer.
    Foreign,
}

impl Answer {
    pub(super) fn read(message: &Message) -> Self {
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Self::NobodyThere;
        }
        match serde_json::from_slice(&message.payload) {
            Ok(Response::Ok(PublishAck { stream, sequence, .. })) if !stream.is_empty() && sequence > 0 => Self::Stored,
            Ok(Response::Err { error }) => Self::NotStored(kind(error.code(), error.error_code()), error.to_string()),
            _ => Self::Foreign,
        }
    }
}

/// What it means that a stream did not take a message, by the error's HTTP-like code and its own.
fn kind(code: usize, error: ErrorCode) -> FailureKind {
    match (error, code) {
        // The account's limits are no fault of the message, in spite of their code, 400.
        (ErrorCode::ACCOUNT_RESOURCES_EXCEEDED, _) => FailureKind::Away { after: None },
        // Another copy of it is on its way into the stream.
        (ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT, _) => FailureKind::TryAgain { after: None },
        (_, 408 | 429) => FailureKind::Away { after: None },
        // Too large for the stream, or the stream is sealed.
        (_, 400..=499) => FailureKind::Refused,
        // It is full (limits, storage, memory), offline, or has no leader.
        _ => FailureKind::Away { after: None },
    }
}

/// Something that the user may not do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Violation<'a> {
    /// Publishing on this subject.
    Publish(&'a str),
    /// Something else.
    Other,
}

impl<'a> Violation<'a> {
    /// What the server complains about, as in `Permissions Violation for Publish to "subject"`.
    pub(super) fn read(complaint: &'a str) -> Option<Self> {
        let rest = strip_prefix(complaint, "permissions violation")?;
        let publish = strip_prefix(rest, " for publish to \"").and_then(|rest| rest.strip_suffix('"'));
        Some(publish.map_or(Self::Other, Self::Publish))
    }
}

/// The rest after a prefix in lower case, whatever the case of the text.
fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(status: Option<StatusCode>, payload: &'static str) -> Message {
        let (subject, length) = ("_INBOX.a.1".into(), payload.len());
        let payload = bytes::Bytes::from_static(payload.as_bytes());
        Message { subject, reply: None, payload, headers: None, status, description: None, length }
    }

    #[test]
    fn an_acknowledgement_is_a_confirmation_also_of_what_the_stream_had_and_nothing_else_is() {
        for (payload, is_stored) in [
            (r#"{"stream":"WHATSAPP","seq":7}"#, true),
            (r#"{"stream":"WHATSAPP","seq":7,"duplicate":true,"domain":"hub"}"#, true),
            (r#"{"stream":"WHATSAPP","seq":7,"new":{"fields":[1]}}"#, true),
            (r#"{"stream":"WHATSAPP"}"#, false),
            (r#"{"stream":"","seq":7}"#, false),
            (r#"{"stream":"WHATSAPP","seq":0}"#, false),
            (r#"{"seq":7}"#, false),
            ("{}", false),
            ("+OK", false),
            ("", false),
        ] {
            let answer = Answer::read(&message(None, payload));
            assert_eq!(matches!(answer, Answer::Stored), is_stored, "{payload}");
            assert_eq!(matches!(answer, Answer::Foreign), !is_stored, "{payload}");
        }
        assert!(matches!(Answer::read(&message(Some(StatusCode::NO_RESPONDERS), "")), Answer::NobodyThere));
        let refused = r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"WHATSAPP","seq":0}"#;
        let Answer::NotStored(kind, why) = Answer::read(&message(None, refused)) else { panic!("it is an error") };
        assert_eq!(kind, FailureKind::Refused);
        assert!(why.contains("message size exceeds maximum allowed"), "{why}");
    }

    #[test]
    fn an_error_says_whether_the_message_or_the_stream_is_the_cause() {
        let (away, again) = (FailureKind::Away { after: None }, FailureKind::TryAgain { after: None });
        for (code, error, expected) in [
            // As the server pairs them.
            (400, ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM, FailureKind::Refused),
            (400, ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM, FailureKind::Refused),
            (400, ErrorCode::STREAM_SEALED, FailureKind::Refused),
            (404, ErrorCode::STREAM_NOT_FOUND, FailureKind::Refused),
            (503, ErrorCode::STREAM_STORE_FAILED, away),
            (500, ErrorCode::STORAGE_RESOURCES_EXCEEDED, away),
            (500, ErrorCode::MEMORY_RESOURCES_EXCEEDED, away),
            (503, ErrorCode::INSUFFICIENT_RESOURCES, away),
            (400, ErrorCode::ACCOUNT_RESOURCES_EXCEEDED, away),
            (503, ErrorCode::CLUSTER_NOT_AVAILABLE, away),
            (500, ErrorCode::CLUSTER_NOT_LEADER, away),
            (503, ErrorCode::JETSTREAM_NOT_ENABLED, away),
            (503, ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT, away),
            (500, ErrorCode::STREAM_OFFLINE, away),
            (429, ErrorCode::STREAM_TOO_MANY_REQUESTS, away),
            (409, ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT, again),
            // Whatever comes to be.
            (400, ErrorCode(99_999), FailureKind::Refused),
            (500, ErrorCode(99_999), away),
            (0, ErrorCode(0), away),
        ] {
            assert_eq!(kind(code, error), expected, "{code} {error:?}");
        }
    }

    #[test]
    fn a_violation_is_known_by_its_subject() {
        for (complaint, violation) in [
            (r#"Permissions Violation for Publish to "a.b""#, Some(Violation::Publish("a.b"))),
            (r#"permissions violation for publish to "A.b""#, Some(Violation::Publish("A.b"))),
            (r#"Permissions Violation for Subscription to "_INBOX.a.*""#, Some(Violation::Other)),
            (r#"Permissions Violation for Publish with Reply of "_INBOX.a.1""#, Some(Violation::Other)),
            ("Permissions Violation", Some(Violation::Other)),
            ("User Authentication Expired", None),
            ("é", None),
            ("", None),
        ] {
            assert_eq!(Violation::read(complaint), violation, "{complaint}");
        }
    }
}
