//! Raw fields to values, collecting what is wrong with them.

use std::ops::Range;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{FieldError, MAX_IDS, pointer};

/// A `momment` below this is in seconds: 10^12 milliseconds is September 2001, 10^12 seconds the year 33658.
pub(super) const FIRST_MILLISECOND_VALUE: i64 = 1_000_000_000_000;

/// Turns raw fields into values and collects what is wrong.
pub(super) struct Reader<'a> {
    pub(super) wrong: &'a mut Vec<FieldError>,
}

impl Reader<'_> {
    fn error(&mut self, pointer: String, detail: String) {
        self.wrong.push(FieldError { pointer, detail });
    }

    pub(super) fn required<T: DeserializeOwned, U>(
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
    pub(super) fn optional<T: DeserializeOwned>(
        &mut self,
        key: &str,
        value: Option<&RawValue>,
        expected: &str,
    ) -> Option<T> {
        match value {
            None => None,
            Some(value) if value.get() == "null" => None,
            value => self.required(key, value, expected, Some),
        }
    }

    pub(super) fn ids(
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

    pub(super) fn moment(&mut self, value: Option<&RawValue>) -> Option<Timestamp> {
        let value = value.filter(|value| value.get() != "null")?;
        // Digits alone: Rust would also read a sign.
        let of_text = |text: String| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let number = from_raw::<i64>(value).or_else(|| from_raw(value).and_then(of_text));
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

pub(super) fn from_raw<T: DeserializeOwned>(value: &RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

fn from_raw_borrowed<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// What kind of JSON value this is, in words that fit "is …".
pub(super) fn kind(value: &RawValue) -> &'static str {
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
