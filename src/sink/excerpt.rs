//! What of a destination's own words may be shown.

use crate::phone;
use crate::secret::Hidden;
use crate::visible::visible;

/// How many characters are kept with a failure.
const SHOWN: usize = 200;

/// As many digits may be a phone number.
const PHONE_DIGITS: usize = 8;

/// The beginning of what it says, on one line, without secrets and with phone numbers masked.
pub(super) fn excerpt(said: &[u8], hidden: &Hidden) -> String {
    let text = hidden.redact(&String::from_utf8_lossy(said));
    let masked = mask_phones(&visible(&text.split_whitespace().collect::<Vec<_>>().join(" ")));
    match masked.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &masked[..end]),
        None => masked,
    }
}

/// Masks whatever has enough digits for a phone number, also with spaces, hyphens and brackets between them, or with a part of it
/// hidden already.
fn mask_phones(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(char::is_numeric) {
        masked.push_str(&rest[..start]);
        rest = &rest[start..];
        let run = rest.find(|c: char| !c.is_numeric() && !" -()./_…".contains(c)).unwrap_or(rest.len());
        let run = rest[..run].trim_end_matches(|c: char| !c.is_numeric());
        if run.chars().filter(|c| c.is_numeric()).count() >= PHONE_DIGITS {
            masked.push_str(&phone::mask(run));
        } else {
            masked.push_str(run);
        }
        rest = &rest[run.len()..];
    }
    masked.push_str(rest);
    masked
}
