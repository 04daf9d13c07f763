//! Server-sent events, as the WHATWG specifies how a stream of them is read.

use anyhow::bail;

/// The most text that one event may have: a stored callback is never as large.
const MAX_BYTES: usize = 80 << 20;

/// What a stream says in one block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) data: String,
}

/// Reads one stream, in whatever pieces it comes.
#[derive(Default)]
pub(super) struct Reader {
    line: Vec<u8>,
    is_after_cr: bool,
    is_begun: bool,
    block: Block,
    last_id: Option<String>,
    retry_ms: Option<u64>,
}

/// What has come of a block.
#[derive(Default)]
struct Block {
    name: String,
    data: String,
    id: Option<String>,
}

impl Reader {
    /// The events that end with these bytes.
    ///
    /// # Errors
    /// When one is too large to be one of ours.
    pub(super) fn read(&mut self, bytes: &[u8]) -> anyhow::Result<Vec<Event>> {
        let mut events = Vec::new();
        for byte in bytes {
            let is_after_cr = std::mem::replace(&mut self.is_after_cr, *byte == b'\r');
            match byte {
                b'\n' if is_after_cr => {}
                b'\r' | b'\n' => events.extend(self.end_line()),
                other => self.line.push(*other),
            }
        }
        if self.line.len() + self.block.data.len() > MAX_BYTES {
            bail!("what comes is larger than anything that this receiver sends");
        }
        Ok(events)
    }

    /// The id of the last block that has ended: where to go on.
    pub(super) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// How long to wait before connecting again, if the stream has said so.
    pub(super) fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    fn end_line(&mut self) -> Option<Event> {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes);
        let is_first = !std::mem::replace(&mut self.is_begun, true);
        let line = line.strip_prefix('\u{feff}').filter(|_| is_first).unwrap_or(&line);
        if line.is_empty() {
            return self.end_block();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.block.name),
            "data" => {
                self.block.data.push_str(value);
                self.block.data.push('\n');
            }
            "id" if !value.contains('\0') => self.block.id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                self.retry_ms = value.parse().ok().or(self.retry_ms);
            }
            // A comment, whose field is empty, and what nobody has specified.
            _ => {}
        }
        None
    }

    /// One without data is no event, but its id counts.
    fn end_block(&mut self) -> Option<Event> {
        let Block { name, mut data, id } = std::mem::take(&mut self.block);
        self.last_id = id.or_else(|| self.last_id.take());
        data.pop()?;
        Some(Event { name, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_are_the_same_however_their_bytes_are_cut() {
        let stream = "\u{feff}retry: 1000\nid: 1\n\n: alive\n\nid:2\nevent: change\ndata: {\"á\":\ndata: 1}\n\n\
                      data\n\ndata: a\r\nid: 3\r\n\r\ndata: b\rid\r\rid: 4\ndata: unfinished";
        let expected = [event("change", "{\"á\":\n1}"), event("", ""), event("", "a"), event("", "b")];
        for size in 1..=stream.len() {
            let mut reader = Reader::default();
            let events: Vec<Event> =
                stream.as_bytes().chunks(size).flat_map(|bytes| reader.read(bytes).unwrap()).collect();
            assert_eq!(events, expected, "{size}");
            assert_eq!((reader.last_id(), reader.retry_ms()), (Some(""), Some(1000)), "{size}");
        }
    }

    #[test]
    fn the_place_is_that_of_the_last_block_that_has_ended() {
        let mut reader = Reader::default();
        for (bytes, place) in [
            ("id: 5\n", None),
            ("\n", Some("5")),
            ("event: change\ndata: x\n\n", Some("5")),
            ("id: 6\ndata: x\n", Some("5")),
            ("\n", Some("6")),
            (": alive\nid: 7\n\n", Some("7")),
            ("id: \0\n\n", Some("7")),
        ] {
            reader.read(bytes.as_bytes()).unwrap();
            assert_eq!(reader.last_id(), place, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_not_specified_is_left_out() {
        let mut reader = Reader::default();
        let stream = b"retry: soon\nretry\nRetry: 1\nunknown: x\n data: x\nevent: a\nevent: b\ndata:  two spaces\n\nevent: no data\n\n";
        assert_eq!(reader.read(stream).unwrap(), [event("b", " two spaces")]);
        assert_eq!((reader.last_id(), reader.retry_ms()), (None, None));
        assert_eq!(reader.read(b"data: \xff\n\n").unwrap(), [event("", "\u{fffd}")]);
    }

    #[test]
    fn an_event_without_end_is_an_error_and_not_kept() {
        let mut reader = Reader::default();
        let megabyte = vec![b'x'; 1 << 20];
        let ended = (0..100).find(|_| reader.read(&megabyte).is_err());
        assert_eq!(ended, Some(80));
    }
}
