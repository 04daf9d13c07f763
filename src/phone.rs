//! How phone numbers are shown, and how a person is found by one: they are personal data.

mod number;

use std::path::Path;

use anyhow::Context as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::keyfile;
use crate::secret::Secret;
use crate::status::to_hex;
pub(crate) use number::Number;

/// The file in the store's folder with the key of [`PhoneStyle::Hashed`].
pub(crate) const KEY_FILE: &str = "phone-key";

/// How a phone number is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PhoneStyle {
    /// Its beginning and its last four digits: `55449****9999`.
    #[default]
    Masked,
    /// As it is.
    Full,
    /// As 16 hexadecimal digits that are the same for the same number in one store, and say nothing without its key.
    Hashed,
}

/// Writes phone numbers in one style.
pub(crate) enum Phones {
    Masked,
    Full,
    Hashed(Secret),
}

impl Phones {
    /// `folder` is the store's, where the key of `hashed` is made and kept.
    pub(crate) fn new(style: PhoneStyle, folder: &Path) -> anyhow::Result<Self> {
        Ok(match style {
            PhoneStyle::Masked => Self::Masked,
            PhoneStyle::Full => Self::Full,
            // Without a key all phone numbers could be hashed in an hour, to see which one it was.
            PhoneStyle::Hashed => Self::Hashed(
                keyfile::read_or_make(&folder.join(KEY_FILE))
                    .context("cannot get the key that hashes phone numbers")?,
            ),
        })
    }

    /// The phone in this style.
    pub(crate) fn show(&self, phone: &str) -> String {
        match self {
            Self::Masked => mask(phone),
            Self::Full => phone.to_owned(),
            Self::Hashed(key) => {
                let mut mac =
                    Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()).expect("HMAC takes a key of any length");
                mac.update(phone.as_bytes());
                to_hex(&mac.finalize().into_bytes()[..8])
            }
        }
    }
}

/// Hides the middle of the number: at least four characters and at most nine are left of it, and what follows it (`-group`,
/// `@lid`). Text without a digit is no number.
pub(crate) fn mask(phone: &str) -> String {
    const LAST: usize = 4;
    const FIRST: usize = 5;
    let (number, rest) = phone.split_at(phone.len() - suffix(phone).len());
    let characters: Vec<char> = number.chars().collect();
    if !characters.iter().any(|c| c.is_numeric()) {
        return phone.to_owned();
    }
    // As many are hidden as are shown at the end, so that a short number is not given away.
    let first = characters.len().saturating_sub(2 * LAST).min(FIRST);
    let last = if characters.len() >= 2 * LAST { LAST } else { 0 };
    let beginning: String = characters[..first].iter().collect();
    let ending: String = characters[characters.len() - last..].iter().collect();
    format!("{beginning}****{ending}{rest}")
}

/// What says at the end of a phone which kind it is. It has no digits: what looks like a suffix and has some may be a number.
fn suffix(phone: &str) -> &str {
    let at = phone.rfind('@').or_else(|| phone.len().checked_sub("-group".len()).filter(|_| phone.ends_with("-group")));
    match at.map(|at| &phone[at..]) {
        Some(suffix) if suffix[1..].bytes().all(|b| b.is_ascii_alphabetic() || b == b'.') => suffix,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_phone_hides_its_middle_whatever_its_form() {
        for (phone, shown) in [
            ("5544999999999", "55449****9999"),
            ("551143095355", "5511****5355"),
            ("12345678", "****5678"),
            ("1234567", "****"),
            ("120363835109990214-group", "12036****0214-group"),
            ("5511988887777-1600000000@g.us", "55119****0000@g.us"),
            ("241320502831241@lid", "24132****1241@lid"),
            ("+55 (44) 99999-9999", "+55 (****9999"),
            ("status@broadcast", "status@broadcast"),
            ("120363835109990214@newsletter", "12036****0214@newsletter"),
            ("5544999999999@s.whatsapp.net", "55449****9999@s.whatsapp.net"),
            ("", ""),
        ] {
            assert_eq!(mask(phone), shown, "{phone}");
        }
    }

    #[test]
    fn a_number_that_stands_where_a_suffix_would_is_masked_too() {
        for (phone, shown) in [
            ("x@5511999998888", "x@551****8888"),
            ("@5511999997777", "@5511****7777"),
            ("g-group5511999995555", "g-gro****5555"),
            ("1@c.us,5511999994444", "1@c.u****4444"),
            ("1@5511999998888@c.us", "1@551****8888@c.us"),
            ("5511999998888-group@", "55119****roup@"),
            ("٥٥١١٩٩٩٩٩٨٨٨٨", "٥٥١١٩****٨٨٨٨"),
            ("x@５５１１９９９９９８８８８", "x@５５１****８８８８"),
            ("é@é5511999998888", "é@é55****8888"),
        ] {
            assert_eq!(mask(phone), shown, "{phone}");
        }
    }

    #[test]
    fn a_hash_is_stable_in_one_store_and_another_in_the_next() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let hash = |folder: &Path| Phones::new(PhoneStyle::Hashed, folder).unwrap().show("5544999999999");
        assert_eq!(hash(one.path()), hash(one.path()));
        assert_ne!(hash(one.path()), hash(other.path()));
    }
}
