//! What commands print, with nothing in it that a terminal would act on. A reader that went away (`| head`) is no error.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::OnceLock;

use anyhow::bail;

use crate::visible::{visible_json, visible_lines};

/// Why standard output took no more: nothing is written after that.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// A line, or several, on standard output.
pub(super) fn line(text: &str) {
    write(&visible_lines(text));
}

/// A value as indented JSON on standard output.
pub(super) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    write(&visible_json(&serde_json::to_string_pretty(value)?));
    Ok(())
}

fn write(text: &str) {
    if FAILED.get().is_none()
        && let Err(error) = writeln!(io::stdout().lock(), "{text}")
    {
        // Only the first failure can get here.
        let _ = FAILED.set(error);
    }
}

/// Whether all was written, as far as somebody was there to read it.
pub(super) fn finish() -> anyhow::Result<()> {
    match FAILED.get() {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => bail!("cannot write to standard output: {error}"),
        _ => Ok(()),
    }
}

/// A remark on standard error.
pub(super) fn remark(text: &str) {
    complain(&visible_lines(text));
}

/// An error on standard error.
pub(super) fn error(text: &str) {
    let mark = if colours() { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" };
    complain(&format!("{mark} {}", visible_lines(text)));
}

fn complain(text: &str) {
    // There is nobody left to tell when this fails.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether standard error may have colours: on a terminal, unless `NO_COLOR` is set.
fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
