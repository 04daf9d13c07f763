//! The wire format: bytes to a [`Callback`], or what is wrong with them, field by field. Pure.
//!
//! Nothing else knows the vendors' field names. What is accepted is what the documentation and captured callbacks show:
//! `ids` (or `id`, a string, as the page's table has it), `momment` (sic) in milliseconds, seconds or as a numeric string,
//! and any field that is not known, which is kept.

mod draft;
mod fields;
mod reader;

use std::ops::Range;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::status::{Facts, Status, is_group_phone};
pub(crate) use draft::{Draft, rewrite};
use fields::Fields;
use reader::{Reader, from_raw, kind};

/// The only `type` that is a status callback.
pub const TYPE: &str = "MessageStatusCallback";

/// The most ids that one callback may carry (31 is the most seen in production).
pub const MAX_IDS: usize = 1000;

/// How deep a value may be nested: half of what common JSON parsers read, as sinks put the callback into an event.
const MAX_DEPTH: usize = 64;

/// The most errors that are told of one body: it may have a thousand wrong ids.
const MAX_ERRORS: usize = 20;

/// A valid `MessageStatusCallback`: one status for one or more messages.
#[derive(Clone, Debug)]
pub struct Callback {
    ids: Vec<String>,
    instance_id: Option<String>,
    status: Status,
    phone: Option<String>,
    participant: Option<String>,
    device: Option<i64>,
    is_group: bool,
    moment: Option<Timestamp>,
    body: Body,
}

impl Callback {
    /// The messages it speaks of, in the order they came; at least one.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// The connected account, where it names one.
    pub fn instance_id(&self) -> Option<&str> {
        self.instance_id.as_deref()
    }

    /// When it happened.
    pub fn moment(&self) -> Option<Timestamp> {
        self.moment
    }

    /// What it says of the message with this id.
    pub fn facts(&self, message_id: &str) -> Facts {
        Facts {
            instance_id: self.instance_id.clone(),
            message_id: message_id.to_owned(),
            status: self.status.clone(),
            phone: self.phone.clone(),
            participant: self.participant.clone(),
            device: self.device,
            moment: self.moment,
        }
    }

    /// Whether the chat is a group: `isGroup`, else by the form of `phone`.
    pub fn is_group(&self) -> bool {
        self.is_group
    }

    /// The body as it came.
    pub fn body(&self) -> &Body {
        &self.body
    }
}

/// A callback's text, and where in it the ids stand: what is needed to cut it to one id without reading it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The text as it came.
    pub text: String,
    /// The byte range of the value of `ids`, when it has more than one.
    pub ids: Option<Range<usize>>,
}

impl Body {
    /// The callback with its ids cut to this one.
    pub fn cut_to(&self, message_id: &str) -> Box<RawValue> {
        let text = match &self.ids {
            None => self.text.clone(),
            Some(ids) => {
                let id = serde_json::Value::from(message_id);
                format!("{}[{id}]{}", &self.text[..ids.start], &self.text[ids.end..])
            }
        };
        RawValue::from_string(text).expect("a parsed body is JSON, and one list of strings was put in another's place")
    }
}

/// Why bytes are not a callback. None of it repeats what the body said, but for field names and a short `type`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not one JSON object at all.
    #[error("{0}")]
    NotAnObject(String),
    /// An object of another kind: the vendors post all their callbacks to one URL when people register one.
    #[error("another type of callback")]
    OtherType(FieldError),
    /// It should be a status callback, but these fields are missing or of the wrong kind.
    #[error("{} invalid", if .0.len() == 1 { "a field is" } else { "fields are" })]
    Fields(Vec<FieldError>),
}

impl Invalid {
    /// What is wrong, by field; empty when it is not an object.
    pub fn errors(&self) -> &[FieldError] {
        match self {
            Self::NotAnObject(_) => &[],
            Self::OtherType(error) => std::slice::from_ref(error),
            Self::Fields(errors) => errors,
        }
    }
}

/// One thing wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, Deserialize)]
pub struct FieldError {
    /// Where, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What, and what was expected.
    pub detail: String,
}

/// Reads one POST body.
///
/// # Errors
/// [`Invalid`], with every wrong field at once.
pub fn parse(bytes: &[u8]) -> Result<Callback, Invalid> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Invalid::NotAnObject(format!("the body is not UTF-8 (at byte {})", error.valid_up_to())))?;
    let fields: Fields<'_> =
        serde_json::from_str(text).map_err(|error| Invalid::NotAnObject(describe(text, &error)))?;
    let mut wrong = fields.wrong;

    if let Err(error) = check_type(fields.callback_type, fields.has_attendance) {
        match error {
            Invalid::Fields(errors) => wrong.extend(errors),
            other => return Err(other),
        }
    }
    let mut reader = Reader { wrong: &mut wrong };
    let status =
        reader.required("status", fields.status, "a non-empty string", |s: String| (!s.is_empty()).then_some(s));
    let (ids, ids_range) = reader.ids(text, fields.ids, fields.id);
    let non_empty = |s: String| Some(s).filter(|s| !s.is_empty());
    let instance_id = reader.optional("instanceId", fields.instance_id, "a string").and_then(non_empty);
    let phone = reader.optional("phone", fields.phone, "a string").and_then(non_empty);
    let participant = reader.optional("participant", fields.participant, "a string").and_then(non_empty);
    let is_group: Option<bool> = reader.optional("isGroup", fields.is_group, "true or false");
    let phone_device: Option<i64> = reader.optional("phoneDevice", fields.phone_device, "an integer");
    let participant_device: Option<i64> = reader.optional("participantDevice", fields.participant_device, "an integer");
    let moment = reader.moment(fields.momment);

    match (status, wrong.is_empty()) {
        (Some(status), true) => Ok(Callback {
            is_group: is_group.unwrap_or_else(|| phone.as_deref().is_some_and(is_group_phone)),
            device: participant_device.or(phone_device),
            ids,
            instance_id,
            status: Status::new(status),
            phone,
            participant,
            moment,
            body: Body { text: text.to_owned(), ids: ids_range },
        }),
        _ => {
            let more = wrong.len().saturating_sub(MAX_ERRORS);
            wrong.truncate(MAX_ERRORS);
            if more > 0 {
                wrong.push(FieldError { pointer: String::new(), detail: format!("has {more} more errors") });
            }
            Err(Invalid::Fields(wrong))
        }
    }
}

/// Says why the text is not an object in words of our own: the parser's would quote a string that is a whole body.
fn describe(text: &str, error: &serde_json::Error) -> String {
    if text.trim_ascii().is_empty() {
        return "the body is empty".into();
    }
    match error.classify() {
        serde_json::error::Category::Data => "the body is JSON, but not one object".into(),
        serde_json::error::Category::Eof => {
            format!("the body's JSON ends too early, at line {} column {}", error.line(), error.column())
        }
        _ => format!("the body is not JSON from line {} column {} on", error.line(), error.column()),
    }
}

/// `Err` is [`Invalid::OtherType`] for what is another kind of callback, [`Invalid::Fields`] for what has no usable type.
fn check_type(value: Option<&RawValue>, has_attendance: bool) -> Result<(), Invalid> {
    let error = |detail: String| FieldError { pointer: "/type".into(), detail };
    let Some(value) = value else {
        let missing = error(format!("is missing; expected \"{TYPE}\""));
        // Plugchat's startAttendance and finishAttendance have no type at all.
        return Err(if has_attendance { Invalid::OtherType(missing) } else { Invalid::Fields(vec![missing]) });
    };
    match from_raw::<String>(value) {
        Some(text) if text == TYPE => Ok(()),
        Some(text) => {
            let is_a_name = !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphabetic());
            let got = if is_a_name { format!("\"{text}\"") } else { "another text".to_owned() };
            Err(Invalid::OtherType(error(format!("is {got}; expected \"{TYPE}\""))))
        }
        None => Err(Invalid::Fields(vec![error(format!("is {}; expected \"{TYPE}\"", kind(value)))])),
    }
}

fn pointer(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests;
