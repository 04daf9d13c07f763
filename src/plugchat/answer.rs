//! What Plugchat's answers mean: a few are documented, none with its body.

use reqwest::{Response, StatusCode};
use serde_json::Value;

use super::ENDPOINT;
use crate::secret::Hidden;

/// More of an answer is not read.
const MAX_BODY: usize = 16 << 10;

/// More of what it says is not shown.
const MAX_WORDS: usize = 40;

/// A longer run of letters is no word.
const MAX_LETTERS: usize = 24;

/// Fewer letters than this give nothing away.
const MIN_TELLING_LETTERS: usize = 4;

/// What an answer that is no success means, and what to do.
pub(super) fn explain(status: StatusCode) -> String {
    let code = status.as_u16();
    match code {
        300..=399 => format!(
            "Plugchat answered with a redirect ({code}), which is not followed: the token would go elsewhere. Set \
             plugchat.endpoint to the address that is meant; Plugchat documents {ENDPOINT}."
        ),
        400 | 422 => format!(
            "Plugchat refuses the URL ({code}). It takes https URLs only, and may try whether it reaches them: try the URL \
             from outside of your network."
        ),
        401 => "Plugchat does not accept the token (401). Take the Authorization Token of Plugchat's administration panel, \
                all of it, without \"Bearer\". Plugchat also answers this to a body whose form it does not know."
            .into(),
        403 => "Plugchat does not let this token register webhooks (403). See to the account's rights in Plugchat's \
                administration panel."
            .into(),
        404 | 410 => format!("Plugchat has nothing at plugchat.endpoint ({code}); it documents {ENDPOINT}."),
        405 => format!(
            "PUT is not allowed at plugchat.endpoint (405): the address is another one than {ENDPOINT}, or a proxy changed \
             the method."
        ),
        415 => "Plugchat saw no Content-Type of application/json (415), though it was sent: look for a proxy between here \
                and Plugchat that takes it away."
            .into(),
        429 => "Plugchat was asked too often (429). Try again in a few minutes.".into(),
        500..=599 => format!(
            "Plugchat has trouble of its own ({code}); the URL may have been registered or not. Nothing is wrong here: try \
             again later."
        ),
        _ => format!("Plugchat refuses the request ({code})."),
    }
}

/// What an answer says in words. Whatever goes wrong here, the status has said what matters.
pub(super) async fn read(mut response: Response, hidden: &Hidden) -> Option<String> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_BODY - body.len())]);
        if body.len() == MAX_BODY {
            break;
        }
    }
    words(&body, hidden)
}

/// The words of a JSON answer's texts. An answer may repeat the URL or the token, whole, cut short or in a form that nobody
/// thought of: so nothing is shown but what looks like a word of a sentence and is no part of either.
fn words(body: &[u8], hidden: &Hidden) -> Option<String> {
    let mut texts = Vec::new();
    collect(&serde_json::from_slice(body).ok()?, &mut texts);
    let mut words: Vec<&str> = Vec::new();
    for word in texts.iter().flat_map(|text| text.split_whitespace()).take(MAX_WORDS) {
        let word = if is_harmless(word, hidden) { word } else { "…" };
        if word != "…" || words.last() != Some(&"…") {
            words.push(word);
        }
    }
    words.iter().any(|word| *word != "…").then(|| words.join(" "))
}

fn collect(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, texts)),
        _ => {}
    }
}

fn is_harmless(word: &str, hidden: &Hidden) -> bool {
    let letters = word.trim_matches(|c: char| ".,;:!?'\"()".contains(c));
    let count = letters.chars().count();
    letters.chars().all(char::is_alphabetic)
        && count <= MAX_LETTERS
        && (count < MIN_TELLING_LETTERS || !hidden.betrayed_by(letters))
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn said(body: &str) -> Option<String> {
        let url = Url::parse("https://status.example.com/message-status/correct-horse-9").unwrap();
        words(body.as_bytes(), &Hidden::with_url(&url, ["opensesame"]))
    }

    #[test]
    fn an_answer_is_shown_in_its_words() {
        let body = r#"{"error": "URL inválida: não é segura.", "code": 5}"#;
        assert_eq!(said(body).as_deref(), Some("URL inválida: não é segura."));
        assert_eq!(said(r#"{"errors": [{"message": "Invalid body"}]}"#).as_deref(), Some("Invalid body"));
    }

    #[test]
    fn an_answer_that_says_nothing_is_not_shown() {
        for body in ["", "<html>Bad Gateway</html>", r#"{"value": true}"#, r#"{"id": "6f1c"}"#] {
            assert_eq!(said(body), None, "{body}");
        }
    }

    #[test]
    fn no_part_of_what_was_sent_is_shown() {
        for echo in [
            "https://status.example.com/message-status/correct-horse-9",
            "https:%2F%2Fstatus.example.com%2Fmessage-status%2Fcorrect-horse-9",
            "correct-ho",
            "correct",
            "Horse",
            "opensesame",
            "OPENSESAME",
            "(sesame)",
            "b3BlbnNlc2FtZQ==",
        ] {
            let body = serde_json::json!({ "message": format!("wrong value {echo} here") }).to_string();
            assert_eq!(said(&body).as_deref(), Some("wrong value … here"), "{echo}");
        }
    }
}
