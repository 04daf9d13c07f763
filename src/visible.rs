//! Text from outside, in what people read: it must not move a terminal's cursor, end a line, or show its parts in another order.

/// What takes the place of a character that does more than be read.
const REPLACEMENT: char = '\u{fffd}';

/// Text for one line.
pub(crate) fn visible(text: &str) -> String {
    text.chars().map(|c| if is_command(c) { REPLACEMENT } else { c }).collect()
}

/// Text for several lines: their ends stay.
pub(crate) fn visible_lines(text: &str) -> String {
    text.chars().map(|c| if c != '\n' && is_command(c) { REPLACEMENT } else { c }).collect()
}

/// JSON in lines. There such a character stands in a string alone, so that its escape says the same.
pub(crate) fn visible_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && is_command(c) {
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Whether a terminal may act on the character: control characters, ends of lines, and those that turn the direction of writing.
fn is_command(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_replaced_and_nothing_else() {
        let commands = "\u{1b}[2J\u{9b}\r\u{7f}\u{202e}\u{2066}\u{2028}\u{200f}\u{61c}";
        assert_eq!(visible(commands), "�[2J��������");
        assert_eq!(visible("two\nlines"), "two�lines");
        assert_eq!(visible_lines("two\nlines\u{1b}"), "two\nlines�");
        for text in ["Olá, não é nada: 55 (44) 9", "العربية עברית 漢字", "👩\u{200d}🚀"] {
            assert_eq!(visible(text), text);
        }
    }

    #[test]
    fn json_says_the_same_as_before() {
        let text = "\u{9b}2J \u{202e} \u{7f} é";
        let shown = visible_json(&serde_json::to_string_pretty(&[text]).unwrap());
        assert!(shown.is_ascii() || shown.contains('é'), "{shown}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&shown).unwrap(), [text]);
        assert!(!shown.contains(['\u{9b}', '\u{202e}', '\u{7f}']));
    }
}
