//! What is posted one by one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use crate::callback::{self, Draft};
use crate::cli::Usage;
use crate::phone::mask;
use crate::visible::visible;

/// A longer line is no callback, and would have to be held in memory.
const MAX_LINE: u64 = 16 << 20;

/// Bodies, or why there are no more.
pub(super) type Bodies = Box<dyn Iterator<Item = anyhow::Result<Body>>>;

/// What is posted at once.
pub(super) struct Body {
    /// Where it is from, when that says more than the body.
    source: Option<String>,
    pub(super) bytes: Vec<u8>,
}

impl Body {
    /// What to call it, phone number masked.
    pub(super) fn label(&self) -> String {
        let content = callback::parse(&self.bytes).ok().map(|callback| {
            let first = &callback.ids()[0];
            let facts = callback.facts(first);
            let more = callback.ids().len() - 1;
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            visible(&format!("{} {first}{more} {}", facts.status, mask(facts.recipient())))
        });
        let label: Vec<_> = [self.source.clone(), content].into_iter().flatten().collect();
        if label.is_empty() { "callback".into() } else { label.join(", ") }
    }
}

/// The five callbacks of Plugchat's page.
pub(super) fn documented() -> Bodies {
    Box::new(Draft::documented().into_iter().map(|draft| Ok(drafted(&draft))))
}

/// This one.
pub(super) fn one(draft: &Draft) -> Bodies {
    Box::new(std::iter::once(Ok(drafted(draft))))
}

fn drafted(draft: &Draft) -> Body {
    Body { source: None, bytes: draft.to_json().into_bytes() }
}

/// Each line of a file that has more than spaces in it; `-` is standard input. They are read as they are needed.
pub(super) fn of_file(path: &Path) -> anyhow::Result<Bodies> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(Lines { name: "standard input".into(), reader: io::stdin().lock(), number: 0 }));
    }
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| Usage(format!("cannot read {name}: {error}")))?;
    Ok(Box::new(Lines { name, reader: BufReader::new(file), number: 0 }))
}

struct Lines<R> {
    name: String,
    reader: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// The next line without its end; `None` after the last.
    fn read(&mut self) -> Result<Option<Vec<u8>>, Usage> {
        let mut line = Vec::new();
        let read = self.reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        let read = read.map_err(|error| Usage(format!("cannot read {}: {error}", self.name)))?;
        self.number += 1;
        if line.pop_if(|last| *last == b'\n').is_some() {
            line.pop_if(|last| *last == b'\r');
        } else if read as u64 == MAX_LINE {
            return Err(Usage(format!("line {} of {} is longer than {MAX_LINE} bytes", self.number, self.name)));
        }
        Ok((read > 0).then_some(line))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = anyhow::Result<Body>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.read() {
                Ok(Some(line)) if line.iter().all(u8::is_ascii_whitespace) => {}
                Ok(Some(bytes)) => return Some(Ok(Body { source: Some(format!("line {}", self.number)), bytes })),
                Ok(None) => return None,
                Err(error) => return Some(Err(error.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<(String, Vec<u8>)> {
        let lines = Lines { name: "test".into(), reader: text, number: 0 };
        lines.map(|body| body.unwrap()).map(|body| (body.label(), body.bytes)).collect()
    }

    #[test]
    fn lines_are_taken_as_they_are_and_empty_ones_left_out() {
        let expected = [("line 1", &b" {}  "[..]), ("line 4", b"\xff\x00"), ("line 5", b"last")];
        let expected = expected.map(|(label, bytes)| (label.to_owned(), bytes.to_vec()));
        assert_eq!(lines(b" {}  \r\n\n \t\n\xff\x00\nlast"), expected);
        assert_eq!(lines(b""), []);
    }

    #[test]
    fn a_label_says_what_the_callback_is_about_and_no_phone_number() {
        let [mut draft, ..] = Draft::documented();
        assert_eq!(drafted(&draft).label(), "SENT 999999999999999999999 55449****9999");
        draft.ids = vec!["one".into(), "two".into(), "three".into()];
        draft.participant = Some("5500988887777".into());
        let text = draft.to_json();
        assert_eq!(lines(text.as_bytes())[0].0, "line 1, SENT one and 2 more 55009****7777");
    }
}
