//! A callback's object as raw fields: one pass over the body, and nothing is copied.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{FieldError, MAX_DEPTH, pointer};

/// The fields as raw JSON, each known one at most once.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) callback_type: Option<&'a RawValue>,
    pub(super) status: Option<&'a RawValue>,
    pub(super) ids: Option<&'a RawValue>,
    pub(super) id: Option<&'a RawValue>,
    pub(super) momment: Option<&'a RawValue>,
    pub(super) phone: Option<&'a RawValue>,
    pub(super) is_group: Option<&'a RawValue>,
    pub(super) instance_id: Option<&'a RawValue>,
    pub(super) phone_device: Option<&'a RawValue>,
    pub(super) participant: Option<&'a RawValue>,
    pub(super) participant_device: Option<&'a RawValue>,
    pub(super) has_attendance: bool,
    pub(super) wrong: Vec<FieldError>,
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
            _ => {
                // Of a known field its reader tells.
                if has_lone_surrogate(value.get()) {
                    let detail = "has half of a surrogate pair, which is no character".into();
                    self.wrong.push(FieldError { pointer: pointer(key), detail });
                }
                return;
            }
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

/// Whether a string in this (valid) JSON has an escape for half of a surrogate pair. The grammar allows it, and most parsers refuse
/// it: events with such a callback in them could not be read.
fn has_lone_surrogate(json: &str) -> bool {
    let mut rest = json;
    while let Some(at) = rest.find("\\") {
        let escape = &rest[at..];
        let unit = unicode_escape(escape);
        // Of an escaped backslash both go: what follows it is no escape.
        let mut length = 2;
        match unit {
            Some(0xd800..0xdc00) if matches!(escape.get(6..).and_then(unicode_escape), Some(0xdc00..0xe000)) => {
                length = 12
            }
            Some(0xd800..0xe000) => return true,
            _ => {}
        }
        rest = &rest[at + length..];
    }
    false
}

/// The code unit of an escape such as `\u00e9` at the beginning of the text.
fn unicode_escape(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}
