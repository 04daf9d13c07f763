//! What commands print, with nothing in it that a terminal would act on. A reader that went away (`| head`) is no error.

use std::io::{self, IsTerminal, Write as _};
use std::sync::OnceLock;

use anyhow::bail;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::oneshot;

use crate::visible::{visible, visible_json, visible_lines};

/// Why standard output took no more: nothing is written after that.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// A line, or several, on standard output.
pub(super) fn line(text: &str) {
    write(&visible_lines(text));
}

/// A line on standard output, one word of which is in a colour: the parameters of an SGR sequence.
pub(super) fn line_with_colour(before: &str, (colour, word): (&str, &str), after: &str) {
    let [before, word, after] = [before, word, after].map(visible);
    match has_colours(&io::stdout()) {
        true => write(&format!("{before}\u{1b}[{colour}m{word}\u{1b}[0m{after}")),
        false => write(&format!("{before}{word}{after}")),
    }
}

/// JSON on one line of standard output.
pub(super) fn json_line(json: &str) {
    write(&visible_json(&json.replace('\n', " ")));
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

/// Whether standard output has taken less than it was given: more is in vain.
pub(super) fn has_failed() -> bool {
    FAILED.get().is_some()
}

/// Completes when nobody reads standard output any more. Without this, whoever writes seldom would learn it late.
pub(super) async fn reader_gone() {
    let (sender, gone) = oneshot::channel();
    // A thread that does nothing else, and ends with the process at the latest.
    std::thread::spawn(move || {
        let stdout = io::stdout();
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        while poll(&mut watched, None) == Err(Errno::INTR) {}
        // Nobody may wait for it any more.
        let _ = sender.send(watched[0].revents());
    });
    match gone.await {
        Ok(seen) if !seen.is_empty() => {}
        // It can't be seen.
        _ => std::future::pending().await,
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
    let mark = if has_colours(&io::stderr()) { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" };
    complain(&format!("{mark} {}", visible_lines(text)));
}

fn complain(text: &str) {
    // There is nobody left to tell when this fails.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether a stream may have colours: on a terminal, unless `NO_COLOR` is set.
fn has_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
