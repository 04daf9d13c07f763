//! The wire format: bytes to a [`Callback`], or what is wrong with them, field by field. Pure.
//!
//! Nothing else knows the vendors' field names. What is accepted is what the documentation and captured callbacks show:
//! `ids` (or `id`, a string, as the page's table has it), `momment` (sic) in milliseconds, seconds or as a numeric string,
//! and any field that is not known, which is kept.

mod draft;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::status::{Facts, Status, is_group_phone};
pub(crate) use draft::Draft;

/// The only `type` that is a status callback.
pub const TYPE: &str = "MessageStatusCallback";

/// The most ids that one callback may carry (31 is the most seen in production).
pub const MAX_IDS: usize = 1000;

/// How deep a value may be nested: half of what common JSON parsers read, as sinks put the callback into an event.
const MAX_DEPTH: usize = 64;

/// A `momment` below this is in seconds: 10^12 milliseconds is September 2001, 10^12 seconds the year 33658.
const FIRST_MILLISECOND_VALUE: i64 = 1_000_000_000_000;

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
        _ => Err(Invalid::Fields(wrong)),
    }
}

/// The fields as raw JSON, each known one at most once.
#[derive(Default)]
struct Fields<'a> {
    callback_type: Option<&'a RawValue>,
    status: Option<&'a RawValue>,
    ids: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    momment: Option<&'a RawValue>,
    phone: Option<&'a RawValue>,
    is_group: Option<&'a RawValue>,
    instance_id: Option<&'a RawValue>,
    phone_device: Option<&'a RawValue>,
    participant: Option<&'a RawValue>,
    participant_device: Option<&'a RawValue>,
    has_attendance: bool,
    wrong: Vec<FieldError>,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                while let Some(Key(key)) = map.next_key()? {
                    let value: &'de RawValue = map.next_value()?;
                    fields.take(&key, value);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self, key: &str, value: &'a RawValue) {
        if is_deeper_than(value.get(), MAX_DEPTH) {
            let detail = format!("is nested deeper than {MAX_DEPTH} levels");
            self.wrong.push(FieldError { pointer: pointer(key), detail });
            return;
        }
        let slot = match key {
            "type" => &mut self.callback_type,
            "status" => &mut self.status,
            "ids" => &mut self.ids,
            "id" => &mut self.id,
            "momment" => &mut self.momment,
            "phone" => &mut self.phone,
            "isGroup" => &mut self.is_group,
            "instanceId" => &mut self.instance_id,
            "phoneDevice" => &mut self.phone_device,
            "participant" => &mut self.participant,
            "participantDevice" => &mut self.participant_device,
            "attendance" => {
                self.has_attendance = true;
                return;
            }
            _ => return,
        };
        if slot.replace(value).is_some() {
            self.wrong.push(FieldError { pointer: pointer(key), detail: "stands in the object twice".into() });
        }
    }
}

/// An object's key, borrowed from the body unless it has escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

fn pointer(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
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

/// Turns raw fields into values and collects what is wrong.
struct Reader<'a> {
    wrong: &'a mut Vec<FieldError>,
}

impl Reader<'_> {
    fn error(&mut self, pointer: String, detail: String) {
        self.wrong.push(FieldError { pointer, detail });
    }

    fn required<T: DeserializeOwned, U>(
        &mut self,
        key: &str,
        value: Option<&RawValue>,
        expected: &str,
        check: impl FnOnce(T) -> Option<U>,
    ) -> Option<U> {
        let found = match value {
            None => "missing",
            Some(value) => match from_raw(value).and_then(check) {
                Some(value) => return Some(value),
                None => kind(value),
            },
        };
        self.error(pointer(key), format!("is {found}; expected {expected}"));
        None
    }

    /// `null` counts as absent.
    fn optional<T: DeserializeOwned>(&mut self, key: &str, value: Option<&RawValue>, expected: &str) -> Option<T> {
        match value {
            None => None,
            Some(value) if value.get() == "null" => None,
            value => self.required(key, value, expected, Some),
        }
    }

    fn ids(
        &mut self,
        text: &str,
        ids: Option<&RawValue>,
        id: Option<&RawValue>,
    ) -> (Vec<String>, Option<Range<usize>>) {
        let ids = ids.filter(|value| value.get() != "null");
        let Some(value) = ids else {
            let Some(id) = id.filter(|value| value.get() != "null") else {
                self.error("/ids".into(), "is missing; expected an array of message ids".into());
                return (Vec::new(), None);
            };
            let id = self.required("id", Some(id), "a non-empty string", |s: String| (!s.is_empty()).then_some(s));
            return (id.into_iter().collect(), None);
        };
        let Some(values) = from_raw_borrowed::<Vec<&RawValue>>(value) else {
            self.error("/ids".into(), format!("is {}; expected an array of strings", kind(value)));
            return (Vec::new(), None);
        };
        if values.is_empty() || values.len() > MAX_IDS {
            self.error("/ids".into(), format!("has {} ids; expected 1 to {MAX_IDS}", values.len()));
            return (Vec::new(), None);
        }
        let mut ids = Vec::with_capacity(values.len());
        for (index, id) in values.iter().enumerate() {
            match from_raw::<String>(id) {
                Some(id) if !id.is_empty() => ids.push(id),
                _ => self.error(format!("/ids/{index}"), format!("is {}; expected a non-empty string", kind(id))),
            }
        }
        let start = value.get().as_ptr() as usize - text.as_ptr() as usize;
        let range = (ids.len() > 1).then(|| start..start + value.get().len());
        (ids, range)
    }

    fn moment(&mut self, value: Option<&RawValue>) -> Option<Timestamp> {
        let value = value.filter(|value| value.get() != "null")?;
        let number = from_raw::<i64>(value).or_else(|| from_raw::<String>(value)?.parse().ok());
        let moment = number.filter(|number| *number >= 0).and_then(|number| {
            let milliseconds = if number < FIRST_MILLISECOND_VALUE { number * 1000 } else { number };
            Timestamp::from_millisecond(milliseconds).ok()
        });
        if moment.is_none() {
            let found = if number.is_some() { "out of range" } else { kind(value) };
            self.error("/momment".into(), format!("is {found}; expected Unix time in milliseconds (or seconds)"));
        }
        moment
    }
}

fn from_raw<T: DeserializeOwned>(value: &RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

fn from_raw_borrowed<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// What kind of JSON value this is, in words that fit "is …".
fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'"') if value.get() == "\"\"" => "an empty string",
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Whether brackets in this (valid) JSON are nested deeper than `limit`.
fn is_deeper_than(json: &str, limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests;
