//! Keeping secrets out of what others answered: they may repeat what they were sent.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use super::RESERVED;

/// A URL's part that is shorter than this is a word such as `api`, and no secret, unless it is the last.
const SHORT_PART: usize = 4;

/// What takes a secret's place.
const HIDDEN: &str = "…";

/// Secrets, each in every form in which an answer may repeat it: as it is and percent-encoded, whatever the case.
pub(crate) struct Hidden {
    /// In lower case, longest first, so that a form is never left in pieces by one that it contains.
    forms: Vec<String>,
}

impl Hidden {
    /// Hides these texts.
    pub(crate) fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms: Vec<String> = texts
            .into_iter()
            .flat_map(|text| {
                let encoded = [RESERVED, NON_ALPHANUMERIC].map(|set| utf8_percent_encode(text, set).to_string());
                let decoded = percent_decode_str(text).decode_utf8_lossy().into_owned();
                encoded.into_iter().chain([text.to_owned(), decoded])
            })
            .filter(|form| !form.trim().is_empty())
            .map(|form| form.to_ascii_lowercase())
            .collect();
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        forms.dedup();
        Self { forms }
    }

    /// Hides these texts, and this URL: as a whole, and each part of it that may be a secret.
    pub(crate) fn with_url<'a>(url: &'a Url, texts: impl IntoIterator<Item = &'a str>) -> Self {
        let path = url.path();
        let last = path.rsplit('/').next().unwrap_or_default();
        let segments = path.split('/').filter(|segment| segment.len() >= SHORT_PART || *segment == last);
        let query = url.query().unwrap_or_default();
        let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
        let path = Some(path).filter(|path| *path != "/");
        let parts = [url.as_str(), url.username(), url.password().unwrap_or_default(), query];
        Self::new(parts.into_iter().chain(path).chain(segments).chain(values).chain(texts))
    }

    /// The text without the secrets.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.forms.iter().fold(text.to_owned(), |text, form| {
            // Lower case of ASCII alone leaves every byte in its place.
            let lower = text.to_ascii_lowercase();
            let mut shown = String::with_capacity(text.len());
            let mut from = 0;
            for (at, found) in lower.match_indices(form.as_str()) {
                shown.push_str(&text[from..at]);
                shown.push_str(HIDDEN);
                from = at + found.len();
            }
            shown.push_str(&text[from..]);
            shown
        })
    }

    /// Whether this word is a secret, has one in it, or is a part of one.
    pub(crate) fn betrayed_by(&self, word: &str) -> bool {
        let word = word.to_ascii_lowercase();
        self.forms.iter().any(|form| form.contains(&word) || word.contains(form.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_in_every_form() {
        let hidden = Hidden::new(["se/cret-é1", "plain"]);
        for said in ["se/cret-é1", "SE/CRET-é1", "se%2Fcret-%C3%A91", "se%2Fcret%2D%C3%A91", "se%2fcret%2d%c3%a91"] {
            assert_eq!(hidden.redact(&format!("no {said} here")), "no … here", "{said}");
        }
        assert_eq!(hidden.redact("plainplain and a Plain one"), "…… and a … one");
        assert_eq!(hidden.redact("nothing of it"), "nothing of it");
    }

    #[test]
    fn a_url_is_hidden_as_a_whole_and_in_parts() {
        let url = Url::parse("https://user:pass1@host.example/api/hook%21x/abc?token=t0ken%2D1&v=2").unwrap();
        let hidden = Hidden::with_url(&url, ["other"]);
        for part in
            [url.as_str(), "/api/hook%21x/abc", "hook%21x", "hook!x", "abc", "t0ken%2D1", "t0ken-1", "pass1", "other"]
        {
            assert_eq!(hidden.redact(&format!("<{part}>")), "<…>", "{part}");
        }
        assert_eq!(hidden.redact("the api of host.example"), "the api of host.example");
    }

    #[test]
    fn a_word_that_is_part_of_a_secret_betrays_it() {
        let hidden = Hidden::new(["correct-horse"]);
        assert!(hidden.betrayed_by("Correct") && hidden.betrayed_by("horse") && hidden.betrayed_by("acorrect-horses"));
        assert!(!hidden.betrayed_by("battery"));
    }
}
