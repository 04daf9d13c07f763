//! A number that a person is looked for by, in all the forms in which it is written.

use crate::phone::mask;

/// The shortest international numbers have eight digits.
const MIN_DIGITS: usize = 8;

/// Elder groups are named by a number, a hyphen and a time: 25 digits at the most.
const MAX_DIGITS: usize = 25;

/// From this many digits on, a number has its country code with it: the longest without one have eleven, Brazil's among them.
const SURELY_WHOLE: usize = 12;

/// The most characters that stand between two groups of a number's digits, as in `55 (44) `.
const MAX_BETWEEN: usize = 3;

/// A phone number with its country code, or the digits of an account id (`…@lid`).
#[derive(Debug)]
pub(crate) struct Number {
    /// The digits, in each way in which they may be written.
    forms: Vec<String>,
}

impl Number {
    /// Reads a number as people write it, `+55 (44) 99999-9999`, or as WhatsApp does, `5544999999999@s.whatsapp.net`.
    ///
    /// # Errors
    /// What is expected. The text is not repeated.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let expected = "expected a phone number with its country code, such as \"+55 44 99999-9999\", or an account id, such as \
             \"123456789012345@lid\"";
        let (name, is_whatsapp_s) = match text.split_once('@') {
            Some((name, _)) => (name, true),
            None => (text.strip_suffix("-group").unwrap_or(text), text.ends_with("-group")),
        };
        // The device, as in 5544999999999:12@s.whatsapp.net.
        let name = name.split_once(':').map_or(name, |(name, _)| name);
        if name.chars().any(|c| c.is_alphanumeric() && !c.is_ascii_digit()) {
            return Err(format!("has letters, {expected}"));
        }
        let written: String = name.chars().filter(char::is_ascii_digit).collect();
        let digits = written.strip_prefix("00").unwrap_or(&written);
        if !(MIN_DIGITS..=MAX_DIGITS).contains(&digits.len()) || digits.starts_with('0') {
            return Err(expected.to_owned());
        }
        if digits.len() < SURELY_WHOLE && !is_whatsapp_s && !name.contains('+') && digits == written {
            return Err("may lack its country code: write it with + and that, such as \"+55 44 99999-9999\"".to_owned());
        }
        let forms = std::iter::once(digits.to_owned()).chain(brazilian_twin(digits)).collect();
        Ok(Self { forms })
    }

    /// Whether the number stands somewhere in a text: its digits and no more, together or in groups, in JSON with escapes, too.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        // What is still to come of each one that has begun.
        let mut begun: Vec<&str> = Vec::new();
        let (mut in_group, mut between) = (false, 0);
        for c in Unescaped(text).chain(std::iter::once('\n')) {
            if c.is_ascii_digit() {
                if !in_group {
                    begun.extend(self.forms.iter().map(String::as_str));
                }
                begun.retain_mut(|rest| rest.strip_prefix(c).map(|after| *rest = after).is_some());
                (in_group, between) = (true, 0);
                continue;
            }
            if in_group && begun.iter().any(|rest| rest.is_empty()) {
                return true;
            }
            (in_group, between) = (false, between + 1);
            if between > MAX_BETWEEN || !may_stand_between(c) {
                begun.clear();
            }
        }
        false
    }

    /// As it may be shown.
    pub(crate) fn masked(&self) -> String {
        self.forms.first().map(|digits| mask(digits)).unwrap_or_default()
    }
}

/// The other form of a Brazilian mobile number. They got a ninth digit, a 9 in front, and WhatsApp still knows many accounts by the
/// eight that they had. Those began with 6 to 9: with another digit there, the other form is a landline of somebody else.
fn brazilian_twin(digits: &str) -> Option<String> {
    let (area, subscriber) = digits.strip_prefix("55")?.split_at_checked(2)?;
    let was_mobile = |eight: &str| eight.len() == 8 && eight.starts_with(['6', '7', '8', '9']);
    match subscriber.strip_prefix('9') {
        Some(eight) if was_mobile(eight) => Some(format!("55{area}{eight}")),
        _ => was_mobile(subscriber).then(|| format!("55{area}9{subscriber}")),
    }
}

/// What people put between the digits of a number, no-break spaces and marks of direction included.
fn may_stand_between(c: char) -> bool {
    matches!(c, ' ' | '(' | ')' | '-' | '.' | '+') || !c.is_ascii() && !c.is_alphanumeric()
}

/// A text's characters, JSON's escapes undone as far as digits and what stands between them need it.
struct Unescaped<'a>(&'a str);

impl Iterator for Unescaped<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        if let Some(escape) = self.0.strip_prefix('\\') {
            self.0 = escape;
            let code = escape.strip_prefix('u').and_then(|code| u32::from_str_radix(code.get(..4)?, 16).ok());
            if let Some(code) = code {
                self.0 = &escape[5..];
                return Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
        let mut rest = self.0.chars();
        let next = rest.next();
        self.0 = rest.as_str();
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        Number::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_number_is_read_in_every_form_in_which_people_write_it() {
        for text in [
            "5544999999999",
            "+55 (44) 99999-9999",
            "+55 44 99999 9999",
            "0055 44 99999.9999",
            " +55\u{a0}44\u{a0}99999\u{2011}9999\u{202c} ",
            "5544999999999@c.us",
            "5544999999999@s.whatsapp.net",
            "5544999999999:12@s.whatsapp.net",
            "+55 44 9999-9999",
            "554499999999",
        ] {
            let number = number(text);
            assert!(number.is_in("5544999999999") && number.is_in("554499999999"), "{text}: {number:?}");
            assert!(!number.masked().contains("999999999"), "{text}");
        }
        assert_eq!(number("241320502831241@lid").forms, ["241320502831241"]);
        assert_eq!(number("+1 (555) 123-4567").forms, ["15551234567"]);
        assert_eq!(number("120363835109990214-group").forms, ["120363835109990214"]);
        assert_eq!(number("5511988887777-1600000000@g.us").forms, ["55119888877771600000000"]);
    }

    #[test]
    fn what_may_be_anybody_s_number_is_refused_and_not_repeated() {
        for (text, why) in [
            ("", "expected"),
            ("status@broadcast", "has letters"),
            ("Maria", "has letters"),
            ("+1234567", "expected"),
            ("044 99999-9999", "expected"),
            ("(44) 99999-9999", "country code"),
            ("15551234567", "country code"),
            ("12345678901234567890123456", "expected"),
            ("٥٥٤٤٩٩٩٩٩٩٩٩٩", "has letters"),
        ] {
            let error = Number::parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
            assert!(text.len() < 8 || !error.contains(text), "{error}");
        }
    }

    #[test]
    fn the_ninth_digit_comes_and_goes_where_it_is_the_same_person_s() {
        for (text, forms) in [
            ("+55 44 98765-4321", ["5544987654321", "554487654321"].as_slice()),
            ("+55 44 8765-4321", &["554487654321", "5544987654321"]),
            // São Paulo's newer mobile numbers were never without the ninth digit: eight digits like that are a landline.
            ("+55 11 94309-5355", &["5511943095355"]),
            ("+55 11 4309-5355", &["551143095355"]),
            ("+54 9 11 6765-4321", &["5491167654321"]),
            ("+55 44 1234567", &["55441234567"]),
        ] {
            assert_eq!(number(text).forms, forms, "{text}");
        }
    }

    #[test]
    fn a_number_is_found_wherever_it_stands_and_no_longer_one_is_taken_for_it() {
        let number = number("+55 44 99999-9999");
        for text in [
            "5544999999999",
            "554499999999@c.us",
            "5544999999999:12@s.whatsapp.net",
            "5544999999999-1600000000@g.us",
            "false_5544999999999@c.us_3EB0C431C26A1916E07E",
            r#"{"contact":{"number":5544999999999}}"#,
            r#"{"name":"+55 (44) 99999-9999"}"#,
            r#"{"name":"\u202a+55 44 9999\u20119999\u202c"}"#,
            r#"{"phone":"5544\u0039999\u00399999"}"#,
            r#"{"5544999999999":1}"#,
            r"C:\\u5544999999999",
            "12 5544999999999",
            "1-5544999999999-1",
        ] {
            assert!(number.is_in(text), "{text}");
        }
        for text in [
            "",
            "55449999999990",
            "15544999999999",
            "44999999999",
            "5544999999998",
            r#"["5544","999999999"]"#,
            "5544 and 999999999",
            "5544    999999999",
            r#"\u00"#,
            r#"\ud800"#,
            "\\",
            "\\u5544999999999é",
        ] {
            assert!(!number.is_in(text), "{text}");
        }
    }
}
