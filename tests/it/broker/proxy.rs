//! A way to a broker that can be broken.

use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::{comes_true, free_port};

/// A TCP proxy. Dropping it closes everything.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    is_listening: watch::Receiver<bool>,
    _stop: oneshot::Sender<()>,
}

struct Shared {
    to: SocketAddr,
    /// What each message has in it, once.
    marker: Vec<u8>,
    /// How many more messages come through before the connections are cut.
    left: Mutex<Option<usize>>,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy)]
struct State {
    accepts: bool,
    forwards: bool,
    /// How often all connections were closed.
    cuts: u64,
}

impl Proxy {
    /// A proxy to a broker, and what occurs once in each message to it, such as `"MessageStatusCallback"`.
    pub(crate) fn start(to: SocketAddr, marker: &str) -> Self {
        let state = watch::Sender::new(State { accepts: true, forwards: true, cuts: 0 });
        let shared = Arc::new(Shared { to, marker: marker.into(), left: Mutex::new(None), state });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let (listening, is_listening) = watch::channel(false);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = serving.serve(address, &listening) => {}
                    // The proxy was dropped.
                    _ = stopped => {}
                }
            });
        });
        let proxy = Self { address, shared, is_listening, _stop: stop };
        proxy.wait_until_listening(true);
        proxy
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets so many more messages through, and closes all connections, once, where the marker of the next one begins. Connections
    /// after that work again.
    pub(crate) fn cut_after(&self, messages: usize) {
        *self.shared.left.lock().expect("nobody panics with it") = Some(messages);
    }

    /// Closes all connections and listens no more.
    pub(crate) fn refuse(&self) {
        self.shared.state.send_modify(|state| {
            state.accepts = false;
            state.cuts += 1;
        });
        self.wait_until_listening(false);
    }

    /// Listens again after [`Self::refuse`], on the same port.
    pub(crate) fn accept(&self) {
        self.shared.state.send_modify(|state| state.accepts = true);
        self.wait_until_listening(true);
    }

    /// Forwards nothing in either direction, on connections that stay open.
    pub(crate) fn stall(&self) {
        self.shared.state.send_modify(|state| state.forwards = false);
    }

    /// Forwards again after [`Self::stall`], and what came meanwhile first.
    pub(crate) fn go_on(&self) {
        self.shared.state.send_modify(|state| state.forwards = true);
    }

    fn wait_until_listening(&self, expected: bool) {
        assert!(comes_true(|| *self.is_listening.borrow() == expected), "somebody else has the proxy's port");
    }
}

impl Shared {
    /// Listens whenever it should, and says whether it does.
    async fn serve(self: &Arc<Self>, address: SocketAddr, listening: &watch::Sender<bool>) {
        let mut state = self.state.subscribe();
        let mut connections = JoinSet::new();
        loop {
            state.wait_for(|state| state.accepts).await.expect("its sender is here");
            let listener = listen(address).await;
            listening.send_replace(true);
            while state.borrow_and_update().accepts {
                tokio::select! {
                    changed = state.changed() => changed.expect("its sender is here"),
                    accepted = listener.accept() => {
                        let (client, _) = accepted.expect("a connection can be accepted");
                        let State { accepts, cuts, .. } = *state.borrow();
                        if accepts {
                            let shared = Arc::clone(self);
                            connections.spawn(async move { shared.forward(client, cuts).await });
                            while connections.try_join_next().is_some() {}
                        }
                    }
                }
            }
            stop_listening(listener);
            // None of them forwards anything after this.
            connections.shutdown().await;
            listening.send_replace(false);
        }
    }

    /// Forwards both directions of a connection, until both have ended, or all connections are closed once more than `cuts` times.
    async fn forward(&self, client: TcpStream, cuts: u64) {
        // A broker that is away closes the connection at once.
        let Ok(server) = TcpStream::connect(self.to).await else { return };
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("it is a TCP socket");
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let mut state = self.state.subscribe();
        tokio::select! {
            // Whatever broke one side breaks the other: both are closed.
            _ = async { tokio::try_join!(self.to_server(from_client, to_server), self.to_client(from_server, to_client)) } => {}
            _ = state.wait_for(|state| state.cuts != cuts) => {}
        }
    }

    async fn to_server(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> std::io::Result<()> {
        let mut search = Search::new(&self.marker);
        while let Some(bytes) = self.read(&mut from).await? {
            let begins = search.find(&bytes).into_iter().find(|_| self.is_one_too_many());
            to.write_all(&bytes[..begins.unwrap_or(bytes.len())]).await?;
            if begins.is_some() {
                self.state.send_modify(|state| state.cuts += 1);
                return Ok(());
            }
        }
        to.shutdown().await
    }

    async fn to_client(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> std::io::Result<()> {
        while let Some(bytes) = self.read(&mut from).await? {
            to.write_all(&bytes).await?;
        }
        to.shutdown().await
    }

    /// What comes next, as soon as it may be forwarded; `None` at the end.
    async fn read(&self, from: &mut OwnedReadHalf) -> std::io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::with_capacity(64 << 10);
        from.read_buf(&mut bytes).await?;
        self.state.subscribe().wait_for(|state| state.forwards).await.expect("its sender is here");
        Ok((!bytes.is_empty()).then_some(bytes))
    }

    /// Counts a message; whether it has to be cut.
    fn is_one_too_many(&self) -> bool {
        let mut left = self.left.lock().expect("nobody panics with it");
        let is_one_too_many = *left == Some(0);
        *left = left.and_then(|left| left.checked_sub(1));
        is_one_too_many
    }
}

/// A listener, as soon as nobody else has its port: a process that is being started right now may.
async fn listen(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

/// Ends a listener for a process that is being started right now, too: until it runs its program, it has a copy of everything.
fn stop_listening(listener: TcpListener) {
    let listener = listener.into_std().expect("a runtime is here");
    // The standard library shuts down streams only. To the system, a socket is a socket.
    let socket = std::net::TcpStream::from(OwnedFd::from(listener));
    socket.shutdown(Shutdown::Both).expect("it listens");
}

/// Searches for a marker in what comes piece by piece.
struct Search<'a> {
    marker: &'a [u8],
    /// The end of the pieces so far: less than a marker.
    tail: Vec<u8>,
}

impl<'a> Search<'a> {
    fn new(marker: &'a [u8]) -> Self {
        Self { marker, tail: Vec::new() }
    }

    /// Where in this piece the markers begin that end in it: at 0 those that began before it.
    fn find(&mut self, piece: &[u8]) -> Vec<usize> {
        let before = self.tail.len();
        self.tail.extend_from_slice(piece);
        let markers = self.tail.windows(self.marker.len()).enumerate().filter(|(_, window)| *window == self.marker);
        let begins = markers.map(|(at, _)| at.saturating_sub(before)).collect();
        self.tail.drain(..self.tail.len().saturating_sub(self.marker.len() - 1));
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::Search;

    #[test]
    fn every_marker_is_found_once_however_the_bytes_are_cut_into_pieces() {
        let bytes = b"mark-mmark--marmark.mar";
        for length in 1..=bytes.len() {
            let mut search = Search::new(b"mark");
            let mut found = Vec::new();
            for (number, piece) in bytes.chunks(length).enumerate() {
                found.extend(search.find(piece).into_iter().map(|at| number * length + at));
            }
            // Those that began in an earlier piece are found where a later one begins.
            let expected = [0, 6, 15].map(|at: usize| {
                let piece_of_its_end = (at + 3) / length * length;
                at.max(piece_of_its_end)
            });
            assert_eq!(found, expected, "in pieces of {length}");
        }
    }
}
