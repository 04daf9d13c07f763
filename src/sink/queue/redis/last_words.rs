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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_was_said_before_the_end_is_read_though_nothing_more_can_be_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut receiving, mut sending) = tokio::io::split(LastWords::new(stream));
        let (mut server, _) = listener.accept().await.unwrap();
        sending.write_all(b"a command").await.unwrap();
        server.readable().await.unwrap();
        server.write_all(b"no").await.unwrap();
        // It closes without having read the command, which resets the connection.
        drop(server);
        let mut said = [0; 2];
        tokio::select! {
            biased;
            result = async { loop { if let Err(error) = sending.write_all(&[0; 1024]).await { break error } } } => panic!("{result}"),
            read = receiving.read_exact(&mut said) => drop(read.unwrap()),
        }
        assert_eq!(&said, b"no");
        assert!(receiving.read_exact(&mut said).await.is_err(), "then it ends");
    }
}
