//! The server, and connections to it.

use std::fmt;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use percent_encoding::percent_decode_str;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError, ServerError, Value, cmd};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::answer;
use super::last_words::LastWords;
use crate::network::NoAnswer;
use crate::secret::{Hidden, Secret};
use crate::sink::queue::Address;

/// Where servers listen, with TLS too.
const PORT: u16 = 6379;

/// How many commands may be on their way to the connection's task: as many as the deliveries at once usually have.
const COMMANDS: usize = 1024;

/// So much is written to the network at once when there is more to write.
const WRITTEN_AT_ONCE: usize = 64 << 10;

/// Where the server is, and as whom to log in.
pub(super) struct Server {
    /// What may be shown of its URL: host and port.
    place: String,
    is_tls: bool,
    host: String,
    port: u16,
    user: String,
    password: Option<Secret>,
    database: u32,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    pub(super) timeout: Duration,
    pub(super) hidden: Hidden,
}

impl Server {
    /// The one that the URL leads to, without TLS yet.
    ///
    /// # Errors
    /// A fragment for the one who wrote the configuration, which says nothing of what may be secret.
    pub(super) fn new(address: &Address, timeout: Duration) -> Result<Self, String> {
        let [url] = address.urls() else {
            return Err("url: expected one URL; several servers, as of a Redis Cluster, are not supported".into());
        };
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
        let user = decoded(url.username()).map_err(|_| "url: the user is not UTF-8")?;
        let password = url.password().map(decoded).transpose().map_err(|_| "url: the password is not UTF-8")?;
        if password.is_none() && !user.is_empty() {
            return Err("url: there is a user without a password; write redis://user:password@host, or \
                        redis://:password@host without a user"
                .into());
        }
        let database = match url.path().trim_start_matches('/') {
            "" => Some(0),
            number => u32::from_str(number).ok(),
        };
        let database = database.filter(|_| url.query().is_none() && url.fragment().is_none());
        let database = database
            .ok_or("url: after the host comes the number of a database, as in redis://host:6379/0, or nothing")?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        Ok(Self {
            place: address.places(),
            is_tls: url.scheme() == "rediss",
            host,
            port: url.port().unwrap_or(PORT),
            user,
            password: password.map(Secret::new),
            database,
            tls: None,
            timeout,
            hidden: address.hidden(),
        })
    }

    /// Whether its URL asks for TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Speaks TLS with it.
    ///
    /// # Errors
    /// When no certificate can be for its host.
    pub(super) fn use_tls(&mut self, config: ClientConfig) -> anyhow::Result<()> {
        let name =
            ServerName::try_from(self.host.clone()).context("the host is no name that a certificate can have")?;
        self.tls = Some((TlsConnector::from(Arc::new(config)), name));
        Ok(())
    }

    /// A new connection on which commands are answered.
    ///
    /// # Errors
    /// What to tell the operator, after `timeout` at the latest.
    pub(super) async fn connect(self: &Arc<Self>) -> Result<Connection, String> {
        let connected = async {
            let connection = self.open().await.map_err(|error| format!("no connection to {}: {error}", self.place))?;
            connection.log_in().await?;
            Ok(connection)
        };
        timeout(self.timeout, connected).await.unwrap_or_else(|_| Err(self.silence()))
    }

    async fn open(self: &Arc<Self>) -> Result<Connection, NoAnswer> {
        // Anew for each connection: after a failover the name leads elsewhere.
        let addresses = lookup_host((self.host.as_str(), self.port));
        let addresses: Vec<_> = addresses.await.map_err(|_| NoAnswer::Name)?.collect();
        let stream = TcpStream::connect(addresses.as_slice()).await.map_err(|error| NoAnswer::from(&error))?;
        stream.set_nodelay(true).map_err(|error| NoAnswer::from(&error))?;
        let stream = LastWords::new(stream);
        match &self.tls {
            None => Connection::over(stream, self).await,
            Some((tls, name)) => {
                let stream = tls.connect(name.clone(), stream).await.map_err(|error| NoAnswer::from(&error))?;
                Connection::over(stream, self).await
            }
        }
    }

    /// The failure of one that does not answer in time.
    pub(super) fn silence(&self) -> String {
        format!("no answer from {} within {}", self.place, humantime::format_duration(self.timeout))
    }

    /// What it answered.
    pub(super) fn says(&self, what: &str) -> String {
        format!("{} answers {what}", self.place)
    }
}

impl fmt::Display for Server {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "rediss" } else { "redis" };
        write!(f, "{scheme}://{}/{}", self.place, self.database)
    }
}

/// Why a command has no result.
pub(super) enum NoReply {
    /// The server answered with an error.
    Error(ServerError),
    /// It didn't answer: the connection is no more. What to tell the operator.
    Lost(String),
}

/// A connection, which any number may use at once. What they send is sent in that order.
pub(super) struct Connection {
    server: Arc<Server>,
    requests: MultiplexedConnection,
    /// Sends, receives, and ends with the connection.
    task: AbortOnDropHandle<()>,
    is_given_up: AtomicBool,
}

impl Connection {
    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        server: &Arc<Server>,
    ) -> Result<Self, NoAnswer> {
        // Nothing is sent of itself: logging in has answers that people want to hear of.
        let silent = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(COMMANDS)
            .set_write_backpressure_boundary(WRITTEN_AT_ONCE);
        let connected = MultiplexedConnection::new_with_config(&silent, stream, config).await;
        let (requests, driver) = connected.map_err(|error| NoAnswer::Connection(error.to_string()))?;
        let task = AbortOnDropHandle::new(tokio::spawn(driver));
        Ok(Self { server: Arc::clone(server), requests, task, is_given_up: AtomicBool::new(false) })
    }

    async fn log_in(&self) -> Result<(), String> {
        let server = &self.server;
        if let Some(password) = &server.password {
            let mut command = cmd("AUTH");
            if !server.user.is_empty() {
                command.arg(&server.user);
            }
            self.obeyed(command.arg(password.expose())).await?;
        }
        if server.database != 0 {
            self.obeyed(cmd("SELECT").arg(server.database)).await?;
        }
        // Before large commands are sent: what is refused to those who should log in depends on the size, and costs the connection.
        match self.request(&cmd("PING")).await {
            // It is there, and whoever is logged in may not do this.
            Err(NoReply::Error(error)) if error.code() == "NOPERM" => Ok(()),
            reply => reply.map(drop).map_err(|error| self.told(error)),
        }
    }

    async fn obeyed(&self, command: &Cmd) -> Result<Value, String> {
        self.request(command).await.map_err(|error| self.told(error))
    }

    /// Has the server carry out a command.
    pub(super) async fn request(&self, command: &Cmd) -> Result<Value, NoReply> {
        match self.requests.clone().send_packed_command(command).await {
            Ok(Value::ServerError(error)) => Err(NoReply::Error(error)),
            Ok(value) => Ok(value),
            Err(error) => Err(NoReply::Lost(self.lost(&error))),
        }
    }

    /// What to tell the operator.
    pub(super) fn told(&self, error: NoReply) -> String {
        match error {
            NoReply::Error(error) => answer::failure(&self.server, &error).cause,
            NoReply::Lost(cause) => cause,
        }
    }

    fn lost(&self, error: &RedisError) -> String {
        let why = match error.kind() {
            redis::ErrorKind::Parse => "what came back is not Redis' protocol".to_owned(),
            _ if error.is_connection_dropped() => NoAnswer::Closed.to_string(),
            _ => error.to_string(),
        };
        format!("no answer from {}: {why}", self.server.place)
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Nobody uses it from now on, but those who do already.
    pub(super) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }

    /// Whether it is there, as far as is known.
    pub(super) fn is_usable(&self) -> bool {
        !self.is_given_up.load(Ordering::Relaxed) && !self.task.is_finished()
    }
}
