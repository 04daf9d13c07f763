//! Where the log sink's lines go.

use std::io::{self, Stdout, Write};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Lines are written to it whole, as far as it goes; clones are the same output.
#[derive(Clone)]
pub(super) struct Output(Arc<Mutex<Lines>>);

struct Lines {
    to: Writer,
    /// The last write broke off within a line.
    is_torn: bool,
}

enum Writer {
    Stdout(Stdout),
    #[cfg(test)]
    Other(Box<dyn Write + Send>),
}

impl Output {
    /// Standard output: one for all sinks, because one of them may have to end the line that another's write tore.
    pub(super) fn stdout() -> Self {
        static STDOUT: LazyLock<Output> = LazyLock::new(|| Output::new(Writer::Stdout(io::stdout())));
        STDOUT.clone()
    }

    #[cfg(test)]
    pub(super) fn to(writer: impl Write + Send + 'static) -> Self {
        Self::new(Writer::Other(Box::new(writer)))
    }

    fn new(to: Writer) -> Self {
        Self(Arc::new(Mutex::new(Lines { to, is_torn: false })))
    }

    /// Writes whole lines, and nobody else's between them. Blocks as long as nobody reads them.
    ///
    /// # Errors
    /// What the system said. Some of the lines may have been written then, and the last one of them torn.
    pub(super) fn write(&self, lines: &[u8]) -> io::Result<()> {
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Lines { to, is_torn } = &mut *output;
        match to {
            Writer::Stdout(stdout) => write(&mut stdout.lock(), is_torn, lines),
            #[cfg(test)]
            Writer::Other(other) => write(other, is_torn, lines),
        }
    }
}

fn write(to: &mut impl Write, is_torn: &mut bool, lines: &[u8]) -> io::Result<()> {
    if *is_torn {
        // Or the next line would be a part of the torn one, and lost with it.
        to.write_all(b"\n")?;
        *is_torn = false;
    }
    let mut rest = lines;
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                *is_torn = rest[written - 1] != b'\n';
                rest = &rest[written..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    to.flush()
}
