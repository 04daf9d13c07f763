//! What commands print. A reader that went away (`| head`) is no error.

use std::io::{IsTerminal as _, Write as _};

/// A line on standard output.
pub(super) fn line(text: &str) {
    // There is nobody left to tell when this fails.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// A value as indented JSON on standard output.
pub(super) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A remark on standard error.
pub(super) fn remark(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// An error on standard error.
pub(super) fn error(text: &str) {
    let mark = if colours() { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" };
    remark(&format!("{mark} {text}"));
}

/// Whether standard error may have colours: on a terminal, unless `NO_COLOR` is set.
fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Text from outside, so that it can't move a terminal's cursor or end a line.
pub(super) fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
