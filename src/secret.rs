//! Text that must never be printed.

mod hidden;

use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

pub(crate) use hidden::Hidden;

/// What is percent-encoded in a URL: all but letters, digits and the other characters that mean the same either way.
/// Encoding those too would be right, but not every sender takes an encoded URL as it is.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A secret or a token. Its `Debug` hides it, it has no `Display`, and it can't be serialized.
#[derive(Clone, PartialEq, Eq, JsonSchema)]
#[schemars(description = "A secret.", extend("minLength" = 1))]
pub struct Secret(String);

impl Secret {
    /// Takes the text that is the secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Makes a new one from 32 random bytes, of characters that need no escaping in a URL.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(crate::status::to_hex(&bytes)))
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text as a part of a URL's path.
    pub(crate) fn in_a_path(&self) -> String {
        utf8_percent_encode(&self.0, RESERVED).to_string()
    }

    /// Reads the non-empty lines of a file, a secret each.
    ///
    /// # Errors
    /// When the file can't be read or has none.
    pub fn read_all(path: &Path) -> Result<Vec<Self>, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let secrets: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Self::new).collect();
        if secrets.is_empty() {
            return Err(format!("{} is empty", path.display()));
        }
        Ok(secrets)
    }

    /// Reads the only non-empty line of a file.
    ///
    /// # Errors
    /// When the file can't be read, or doesn't have exactly one.
    pub fn read_one(path: &Path) -> Result<Self, String> {
        let mut all = Self::read_all(path)?;
        match (all.pop(), all.len()) {
            (Some(secret), 0) => Ok(secret),
            (_, others) => Err(format!("{} has {} lines, expected one", path.display(), others + 1)),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Says itself what it expected: serde's own messages would quote the value.
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a non-empty string in quotes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
                if text.trim().is_empty() {
                    return Err(E::custom("is empty, expected a secret"));
                }
                Ok(Secret::new(text))
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Secret, E> {
                Err(E::custom("expected a string in quotes"))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
                Err(E::custom("expected a string in quotes"))
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
                Err(E::custom("expected a string in quotes"))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// One secret given as a value or as the path of a file, never both.
///
/// # Errors
/// A sentence that names both keys, or says why the file can't be used.
pub fn one_of(key: &str, value: Option<&Secret>, file: Option<&PathBuf>) -> Result<Option<Secret>, String> {
    match (value, file) {
        (Some(_), Some(_)) => Err(format!("{key} and {key}_file are both set; keep one of them")),
        (Some(secret), None) => Ok(Some(secret.clone())),
        (None, Some(path)) => Secret::read_one(path).map(Some).map_err(|error| format!("{key}_file: {error}")),
        (None, None) => Ok(None),
    }
}
