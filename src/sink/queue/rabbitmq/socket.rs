//! Sockets for the client, which would make its own: these speak the TLS that all destinations do, and can be shut at any time.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_rs::Tokio;
use async_rs::traits::Reactor;
use futures_util::Stream;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use crate::network::NoAnswer;

/// A connection's two directions.
pub(super) type Socket = Compat<Pin<Box<dyn Duplex>>>;

pub(super) trait Duplex: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// Shuts a socket. The client's thread ends with its socket, and nothing else is sure to end it: it writes nothing to a broker that
/// has blocked it, not even that it closes.
pub(super) struct Shutter {
    socket: std::net::TcpStream,
    /// Whether dropping this shuts it.
    pub(super) on_drop: bool,
}

impl Shutter {
    pub(super) fn shut(&self) {
        // It may have been closed by the other side.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Drop for Shutter {
    fn drop(&mut self) {
        if self.on_drop {
            self.shut();
        }
    }
}

/// Connects to a host, over TLS if `tls` says how. Dropping what shuts the connection shuts it.
///
/// # Errors
/// Why there is no connection.
pub(super) async fn connect(
    host: &str,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
) -> Result<(Socket, Shutter), NoAnswer> {
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(|_| NoAnswer::Name)?;
    let mut connected = Err(NoAnswer::Name);
    for address in addresses {
        connected = TcpStream::connect(address).await.map_err(|error| NoAnswer::from(&error));
        if connected.is_ok() {
            break;
        }
    }
    let stream = connected?;
    let handle = stream.set_nodelay(true).and_then(|()| stream.as_fd().try_clone_to_owned());
    let handle = handle.map_err(|error| NoAnswer::from(&error))?;
    let shutter = Shutter { socket: handle.into(), on_drop: true };
    let Some(tls) = tls else { return Ok((boxed(stream), shutter)) };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| NoAnswer::Name)?;
    let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(|error| NoAnswer::from(&error))?;
    Ok((boxed(stream), shutter))
}

fn boxed(stream: impl Duplex + 'static) -> Socket {
    let stream: Pin<Box<dyn Duplex>> = Box::pin(stream);
    stream.compat()
}

/// What the client asks for time, and would ask for sockets.
#[derive(Clone, Debug)]
pub(super) struct Timers(pub(super) Tokio);

impl Reactor for Timers {
    type TcpStream = Socket;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: io::Read + io::Write + Send + 'static>(
        &self,
        _socket: H,
    ) -> io::Result<impl futures_util::AsyncRead + futures_util::AsyncWrite + Send + Unpin + 'static> {
        Err::<Socket, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, pause: Duration) -> Self::Sleep {
        self.0.sleep(pause)
    }

    fn interval(&self, pause: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(pause)
    }

    fn tcp_connect_addr(&self, _address: SocketAddr) -> impl Future<Output = io::Result<Socket>> + Send + 'static {
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
