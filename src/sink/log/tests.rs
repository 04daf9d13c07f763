//! The log sink keeps what every sink promises, whatever it writes to.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::Value;

use super::*;
use crate::sink::conformance;
use crate::sink::conformance::Give as _;

/// Takes what is written to it in small pieces, as far as it is told to.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    text: Vec<u8>,
    /// It fails once after so many lines, within the next one.
    lines_left: Option<usize>,
    is_closed: bool,
}

/// The most that it takes at once.
const PIECE: usize = 100;

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let state = &mut *self.0.lock().unwrap();
        if state.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if state.lines_left == Some(0) && state.text.last().is_some_and(|byte| *byte != b'\n') {
            state.lines_left = None;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let line_end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
        let piece = &bytes[..line_end.min(PIECE)];
        state.text.extend_from_slice(piece);
        if let Some(lines) = &mut state.lines_left
            && piece.ends_with(b"\n")
        {
            *lines = lines.saturating_sub(1);
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pipe {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().text.clone()).unwrap()
    }
}

fn sink(output: Output, pretty: bool) -> LogSink {
    let phones = Phones::new(PhoneStyle::Masked, Path::new("")).unwrap();
    LogSink { name: "audit".into(), phones, pretty, output }
}

/// What a log sink in JSON writes to.
struct JsonLines {
    pipe: Pipe,
    output: Output,
}

#[async_trait]
impl conformance::Destination for JsonLines {
    async fn start() -> Self {
        let pipe = Pipe::default();
        Self { output: Output::to(pipe.clone()), pipe }
    }

    fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(sink(self.output.clone(), false))
    }

    /// A line that was torn is no line.
    async fn taken(&mut self) -> Vec<String> {
        let text = self.pipe.text();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.map(|line| line["message_id"].as_str().unwrap().to_owned()).collect()
    }

    async fn fail_after(&mut self, changes: usize) {
        self.pipe.0.lock().unwrap().lines_left = Some(changes);
    }

    fn refused_after(&mut self, _: usize) -> Option<Delivery> {
        None
    }

    async fn go_away(&mut self) {
        self.pipe.0.lock().unwrap().is_closed = true;
    }

    async fn come_back(&mut self) {
        self.pipe.0.lock().unwrap().is_closed = false;
    }
}

conformance::promises!(JsonLines);

#[tokio::test]
async fn a_line_that_a_failure_tore_is_ended_before_the_next_one_also_by_another_sink() {
    for (before, torn) in [(0, 1), (2, 1)] {
        let pipe = Pipe::default();
        let output = Output::to(pipe.clone());
        let (one, other) = (sink(output.clone(), true), sink(output, true));
        pipe.0.lock().unwrap().lines_left = Some(before);
        let changes = ["a", "b", "c"].map(conformance::delivery);
        let failure = one.give(&changes).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Away { after: None });
        other.give(&changes).await.unwrap();
        one.give(&changes).await.unwrap();
        let text = pipe.text();
        let whole = text.lines().filter(|line| line.ends_with("sink=audit")).count();
        assert_eq!((whole, text.lines().count()), (before + 6, before + torn + 6), "{text}");
    }
}
