//! Hearing what a server says before it closes a connection on which more is being sent to it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TCP stream on which an answer is never missed.
///
/// A server that refuses a command while it is still being sent answers why, and closes: sending fails then, while the answer may
/// not have been read. Here sending never fails, but waits: what came is read first, and the end after it. And one that refuses a
/// connection says so before it was asked anything: that is not read before there is a command that it can be the answer to.
pub(super) struct LastWords {
    stream: TcpStream,
    has_sent: bool,
}

impl LastWords {
    /// Over this stream, on which nothing was sent.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, has_sent: false }
    }
}

impl AsyncRead for LastWords {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.has_sent {
            // Sending wakes the task, which does both.
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for LastWords {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.has_sent {
            self.has_sent = true;
            context.waker().wake_by_ref();
        }
        match ready!(Pin::new(&mut self.stream).poll_write(context, bytes)) {
            // The end wakes whoever reads. There is nobody to write to any more.
            Err(_) => Poll::Pending,
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
