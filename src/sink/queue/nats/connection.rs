//! One connection to a server, on which many requests are under way at once.
//!
//! The client reconnects by itself, and then sends what it was given meanwhile. That would be publishing behind the back of
//! whoever was told that it failed, so here a connection that broke is over, and what it has not sent is never sent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, HeaderMap, Message, ServerAddr, ServerError,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::answer::Violation;

/// How many requests may be unanswered at once. The client holds 128 of the server's complaints for us, and drops more: this many
/// requests can't cause as many.
const UNANSWERED: usize = 120;

/// Where the client is sent when its connection breaks: a port that nobody can listen on.
const NOWHERE: &str = "nats://127.0.0.1:0";

/// A connection. Dropping it closes it.
pub(super) struct Connection {
    client: Client,
    /// What the subjects of replies begin with.
    inbox: String,
    requests: Arc<Requests>,
    permits: Arc<Semaphore>,
    _replies: AbortOnDropHandle<()>,
}

/// What became of a request.
pub(super) enum Reply {
    /// Somebody answered.
    Message(Message),
    /// The server lets this user publish nothing on the subject.
    Denied,
    /// The connection broke before an answer came, for this reason.
    Lost(String),
}

/// Why a request was not sent.
pub(super) enum NotSent {
    /// It is larger than the server takes.
    TooLarge {
        /// The most that it takes, headers and body.
        max_bytes: usize,
    },
    /// The subject is none.
    Subject,
    /// The connection had broken before, for this reason.
    Lost(String),
}

impl Connection {
    /// Connects to the first of these servers that takes it.
    pub(super) async fn open(servers: &[ServerAddr], options: ConnectOptions) -> Result<Self, ConnectError> {
        let requests = Arc::new(Requests::default());
        let told = Arc::clone(&requests);
        let client = options
            .ignore_discovered_servers()
            .max_reconnects(servers.len())
            .reconnect_delay_callback(|_| Duration::ZERO)
            .event_callback(move |event| {
                told.event(event);
                std::future::ready(())
            })
            .connect(servers)
            .await?;
        let closed = || ConnectError::with_source(ConnectErrorKind::Io, "the server closed it again");
        client.set_server_pool(NOWHERE).await.map_err(|_| closed())?;
        let inbox = client.new_inbox();
        let mut replies = client.subscribe(format!("{inbox}.*")).await.map_err(|_| closed())?;
        let answered = Arc::clone(&requests);
        let reading = tokio::spawn(async move {
            while let Some(message) = replies.next().await {
                answered.answer(message);
            }
            // After all that came on it.
            answered.lose("the connection broke");
        });
        let permits = Arc::new(Semaphore::new(UNANSWERED));
        Ok(Self { client, inbox, requests, permits, _replies: AbortOnDropHandle::new(reading) })
    }

    /// Sends a request, or a message that is to be confirmed. The reply is waited for elsewhere.
    pub(super) async fn send(&self, subject: String, headers: HeaderMap, body: Bytes) -> Result<Waiting, NotSent> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| NotSent::Lost("it is over".into()))?;
        let waiting = Requests::add(&self.requests, subject.clone(), permit).map_err(NotSent::Lost)?;
        let reply = format!("{}.{}", self.inbox, waiting.number);
        let sent = self.client.publish_with_reply_and_headers(subject, reply, headers, body).await;
        match sent.map_err(|error| error.kind()) {
            Ok(()) => Ok(waiting),
            Err(PublishErrorKind::MaxPayloadExceeded) => {
                Err(NotSent::TooLarge { max_bytes: self.client.max_payload() })
            }
            Err(PublishErrorKind::InvalidSubject) => Err(NotSent::Subject),
            Err(PublishErrorKind::Send) => Err(NotSent::Lost("the connection broke".into())),
        }
    }

    /// Takes no more requests. Those under way go on.
    pub(super) fn give_up(&self, why: &str) {
        self.requests.state().lost.get_or_insert_with(|| why.to_owned());
    }

    /// Whether it takes no more requests.
    pub(super) fn is_lost(&self) -> bool {
        self.requests.state().lost.is_some()
    }
}

/// A request whose reply has not been taken yet. Dropping it forgets the request.
pub(super) struct Waiting {
    number: u64,
    reply: oneshot::Receiver<Reply>,
    requests: Arc<Requests>,
}

impl Waiting {
    /// Waits for the reply, for ever if need be.
    pub(super) async fn reply(&mut self) -> Reply {
        (&mut self.reply).await.unwrap_or_else(|_| Reply::Lost("the connection broke".into()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.requests.state().open.remove(&self.number);
    }
}

/// The requests of a connection that are not answered yet.
#[derive(Default)]
struct Requests(Mutex<State>);

#[derive(Default)]
struct State {
    sent: u64,
    open: HashMap<u64, Open>,
    /// Why there can be no more.
    lost: Option<String>,
    /// What the server complained about last: the reason when it closes the connection.
    complaint: Option<String>,
}

struct Open {
    subject: String,
    reply: oneshot::Sender<Reply>,
    _permit: OwnedSemaphorePermit,
}

impl Requests {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(this: &Arc<Self>, subject: String, permit: OwnedSemaphorePermit) -> Result<Waiting, String> {
        let mut state = this.state();
        if let Some(why) = &state.lost {
            return Err(why.clone());
        }
        let (reply, waiting) = oneshot::channel();
        state.sent += 1;
        let number = state.sent;
        state.open.insert(number, Open { subject, reply, _permit: permit });
        Ok(Waiting { number, reply: waiting, requests: Arc::clone(this) })
    }

    fn answer(&self, message: Message) {
        let number = message.subject.rsplit('.').next().and_then(|number| number.parse().ok());
        if let Some(open) = number.and_then(|number: u64| self.state().open.remove(&number)) {
            // Whoever asked may have gone.
            let _ = open.reply.send(Reply::Message(message));
        }
    }

    /// What the client noticed. A server answers a publish that it doesn't allow by a complaint that names the subject alone.
    fn event(&self, event: Event) {
        let Event::ServerError(error) = event else { return };
        let complaint = match error {
            ServerError::Other(complaint) => complaint,
            other => other.to_string(),
        };
        match Violation::read(&complaint) {
            Some(Violation::Publish(subject)) => {
                let denied = self.state().open.extract_if(|_, open| open.subject == subject).collect::<Vec<_>>();
                for (_, open) in denied {
                    let _ = open.reply.send(Reply::Denied);
                }
            }
            // Most likely of the inbox: then no reply can ever come.
            Some(Violation::Other) => self.lose(&complaint),
            None => self.state().complaint = Some(complaint),
        }
    }

    fn lose(&self, why: &str) {
        let mut state = self.state();
        let why = state.complaint.take().map_or_else(|| why.to_owned(), |complaint| format!("{why}: {complaint}"));
        let why = state.lost.get_or_insert(why).clone();
        for (_, open) in std::mem::take(&mut state.open) {
            let _ = open.reply.send(Reply::Lost(why.clone()));
        }
    }
}
