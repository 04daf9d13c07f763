//! A connection to one of the nodes, and its channels.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use lapin::options::ConfirmSelectOptions;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties, ErrorKind};
use rustls::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::socket::{self, Shutter, Timers};
use crate::network::NoAnswer;
use crate::secret::Hidden;
use crate::sink::excerpt::excerpt;

/// The code by which a broker refuses a user.
const ACCESS_REFUSED: u16 = 403;

/// The client counts a channel that was closed until it has seen to it, and tells nobody when it has.
const RECOUNT: Duration = Duration::from_millis(10);

/// The nodes of a broker.
pub(super) struct Cluster {
    pub(super) nodes: Vec<AMQPUri>,
    /// The one that is tried first: the last that could be reached.
    pub(super) first: AtomicUsize,
    pub(super) tls: Arc<ClientConfig>,
    /// How long connecting to one of them may take.
    pub(super) timeout: Duration,
    pub(super) hidden: Hidden,
}

impl Cluster {
    /// Connects to the first node that can be reached.
    ///
    /// # Errors
    /// Why each of them can't be, for people.
    pub(super) async fn connect(&self) -> Result<Link, String> {
        let first = self.first.load(Ordering::Relaxed);
        let mut causes = Vec::new();
        for offset in 0..self.nodes.len() {
            let index = (first + offset) % self.nodes.len();
            let node = &self.nodes[index];
            let why = match timeout(self.timeout, self.connect_to(node)).await {
                Ok(Ok(link)) => {
                    self.first.store(index, Ordering::Relaxed);
                    return Ok(link);
                }
                Ok(Err(why)) => why,
                Err(_) => NoAnswer::ConnectTimeout.to_string(),
            };
            causes.push(format!("{}:{}: {why}", node.authority.host, node.authority.port));
        }
        Err(format!("no connection to {}", causes.join("; ")))
    }

    async fn connect_to(&self, node: &AMQPUri) -> Result<Link, String> {
        let tls = (node.scheme == AMQPScheme::AMQPS).then(|| Arc::clone(&self.tls));
        let connected = socket::connect(&node.authority.host, node.authority.port, tls).await;
        let (socket, mut shutter) = connected.map_err(|why| why.to_string())?;
        let socket = Mutex::new(Some(socket));
        // The client would call it again to reconnect by itself, which it is not asked to.
        let take = async move |_, _| {
            let socket = socket.lock().unwrap_or_else(PoisonError::into_inner).take();
            Ok(AsyncTcpStream::Plain(socket.ok_or(io::Error::from(io::ErrorKind::NotConnected))?))
        };
        let tokio = Tokio::current();
        let runtime = Runtime::new(RuntimeParts::new(tokio.clone(), Timers(tokio)));
        let properties = ConnectionProperties::default()
            .with_connection_name("plugchat-receiver".into())
            .with_client_property("product".into(), "plugchat-receiver".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let connection = Connection::connector(node.clone(), runtime, take, properties).await;
        let connection = connection.map_err(|error| self.refusal(node, &error))?;
        shutter.on_drop = false;
        let places = Arc::new(Semaphore::new(connection.configuration().channel_max().into()));
        Ok(Link { connection, shutter, is_cut: AtomicBool::new(false), places, idle: Mutex::default() })
    }

    /// Why a node does not greet as it should, for people.
    fn refusal(&self, node: &AMQPUri, error: &lapin::Error) -> String {
        let words = self.words(error);
        match (error.kind(), &node.scheme) {
            (ErrorKind::ProtocolError(refusal), _) if refusal.get_id() == ACCESS_REFUSED => {
                format!("the user name or the password is refused ({words})")
            }
            (ErrorKind::ProtocolError(_), _) => words,
            (ErrorKind::ParsingError(_) | ErrorKind::InvalidProtocolVersion(_), AMQPScheme::AMQP) => {
                "what listens there does not speak AMQP; if it wants TLS, use amqps://".into()
            }
            (ErrorKind::ParsingError(_) | ErrorKind::InvalidProtocolVersion(_), AMQPScheme::AMQPS) => {
                "what listens there does not speak AMQP".into()
            }
            // Neither is told in a way that the client hears.
            (_, AMQPScheme::AMQP) => {
                format!("{words}; if the broker wants TLS there, the URL has to begin with amqps://")
            }
            (_, AMQPScheme::AMQPS) if !self.tls.client_auth_cert_resolver.has_certs() => {
                format!("{words}; if the broker wants a certificate, set cert_file and key_file")
            }
            _ => words,
        }
    }

    /// An error of the client's, for people.
    pub(super) fn words(&self, error: &lapin::Error) -> String {
        match error.kind() {
            ErrorKind::ProtocolError(refusal) => excerpt(refusal.get_message().as_str().as_bytes(), &self.hidden),
            ErrorKind::IOError(error) => NoAnswer::from(&**error).to_string(),
            ErrorKind::InvalidConnectionState(_) | ErrorKind::InvalidChannelState(..) => NoAnswer::Closed.to_string(),
            _ => excerpt(error.to_string().as_bytes(), &self.hidden),
        }
    }
}

/// A connection. Deliveries share it, each with a channel of its own: what the broker has against one closes that channel.
pub(super) struct Link {
    connection: Connection,
    shutter: Shutter,
    is_cut: AtomicBool,
    /// As many as there may be channels.
    places: Arc<Semaphore>,
    /// Open channels that nobody uses, and on which nothing is unconfirmed.
    idle: Mutex<Vec<Channel>>,
}

impl Link {
    /// Whether it is worth a try.
    pub(super) fn is_open(&self) -> bool {
        !self.is_cut.load(Ordering::Relaxed) && self.connection.status().connected()
    }

    /// Whether the broker has said that it takes no messages for now.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Ends the connection for everybody, without a word to the broker, who may not listen.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
        self.shutter.shut();
    }

    /// Leave to use a channel, once there are fewer in use than the broker allows. Whoever waited longest gets it first.
    pub(super) async fn place(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.places).acquire_owned().await.expect("nobody closes the semaphore")
    }

    /// A channel that confirms what is published on it. Dropping it closes it.
    pub(super) async fn channel(&self, place: OwnedSemaphorePermit) -> lapin::Result<Lent> {
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|channel| channel.status().connected());
            idle.pop()
        };
        if let Some(channel) = idle {
            return Ok(Lent { channel, place });
        }
        let channel = loop {
            match self.connection.create_channel().await {
                Err(error) if matches!(error.kind(), ErrorKind::ChannelsLimitReached) => sleep(RECOUNT).await,
                created => break created?,
            }
        };
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Lent { channel, place })
    }

    /// Keeps a channel, on which nothing is unconfirmed, for the next delivery.
    pub(super) fn put_back(&self, Lent { channel, place }: Lent) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
        // Whoever gets the place finds the channel.
        drop(place);
    }
}

/// A channel in use.
pub(super) struct Lent {
    pub(super) channel: Channel,
    place: OwnedSemaphorePermit,
}
