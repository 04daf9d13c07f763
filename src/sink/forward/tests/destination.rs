//! A destination that does as it is told, on a real socket, and the changes that it is given.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::sink::Failure;
use crate::sink::conformance::Give as _;
pub(super) use crate::sink::conformance::delivery;
use crate::sink::forward::{Config, ForwardSink};

/// What is secret in the tests' requests: the URL's path and query, and a header.
pub(super) const CANARIES: [&str; 4] = ["canary-path", "canary-query", "canary-header", "Q2FuYXJ5"];

/// A signing key with the last canary in it.
pub(super) const KEY: &str = "whsec_Q2FuYXJ5Q2FuYXJ5Q2FuYXJ5Q2FuYXJ5";

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// These bytes are the answer, and the connection is kept.
    Say(String),
    /// These bytes come, and the connection closes.
    SayAndClose(String),
    /// Nothing comes, ever.
    Hang,
    /// The head of an answer with this status comes, a mebibyte of its body, and never an end.
    Endless(u16),
}

impl Act {
    /// An answer with this status and body.
    pub(super) fn answer(status: u16, body: &str) -> Self {
        Self::with_headers(status, "", body)
    }

    /// Likewise with headers, each with its line's end.
    pub(super) fn with_headers(status: u16, headers: &str, body: &str) -> Self {
        Self::Say(format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()))
    }
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) line: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// A scripted destination. What has no act in the script is answered 200.
pub(super) struct Destination {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    arrived: watch::Receiver<usize>,
    serving: JoinHandle<()>,
}

struct Shared {
    script: Mutex<VecDeque<Act>>,
    requests: Mutex<Vec<Request>>,
    /// The bodies of those that were answered 2xx, or would have been had the sink waited.
    taken: Mutex<Vec<Vec<u8>>>,
    connections: AtomicUsize,
    arrived: watch::Sender<usize>,
}

impl Destination {
    pub(super) async fn new(script: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, arrived) = watch::channel(0);
        let shared = Arc::new(Shared {
            script: Mutex::new(script.into_iter().collect()),
            requests: Mutex::default(),
            taken: Mutex::default(),
            connections: AtomicUsize::new(0),
            arrived: sender,
        });
        let serving = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, arrived, serving }
    }

    /// Refuses connections, and closes those that there are.
    pub(super) async fn go_away(&mut self) {
        self.serving.abort();
        // It has ended, by being told to.
        let _ = (&mut self.serving).await;
    }

    /// Accepts connections again, at the same address.
    pub(super) async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serving = tokio::spawn(accept(listener, Arc::clone(&self.shared)));
    }

    /// Adds to the script.
    pub(super) fn then(&self, acts: impl IntoIterator<Item = Act>) {
        self.shared.script.lock().unwrap().extend(acts);
    }

    /// A sink that posts here, with the configuration after its URL.
    pub(super) fn sink(&self, more: &str) -> ForwardSink {
        sink(&format!("url = \"http://{}/canary-path?key=canary-query\"\n{more}", self.address))
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The message ids of the events that arrived.
    pub(super) fn message_ids(&self) -> Vec<String> {
        self.requests().iter().map(|request| message_id(&request.body)).collect()
    }

    /// The message ids of the events that it has taken.
    pub(super) fn taken(&self) -> Vec<String> {
        self.shared.taken.lock().unwrap().iter().map(|body| message_id(body)).collect()
    }

    pub(super) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Waits until so many requests are there.
    pub(super) async fn wait_for_requests(&mut self, count: usize) {
        self.arrived.wait_for(|arrived| *arrived >= count).await.unwrap();
    }
}

fn message_id(event: &[u8]) -> String {
    let event: serde_json::Value = serde_json::from_slice(event).unwrap();
    event["message_id"].as_str().unwrap().to_owned()
}

/// Serves connections, which end with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        shared.connections.fetch_add(1, Ordering::Relaxed);
        connections.spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        let body = request.body.clone();
        shared.requests.lock().unwrap().push(request);
        let act = shared.script.lock().unwrap().pop_front().unwrap_or_else(|| Act::answer(200, ""));
        if matches!(&act, Act::Say(text) if text.starts_with("HTTP/1.1 2")) {
            shared.taken.lock().unwrap().push(body);
        }
        shared.arrived.send_modify(|arrived| *arrived += 1);
        // The sink may be the one to close.
        let (text, close) = match act {
            Act::Say(text) => (text, false),
            Act::SayAndClose(text) => (text, true),
            Act::Hang => std::future::pending().await,
            Act::Endless(status) => {
                let body = "x".repeat(1 << 20);
                // The sink closes before it has come to the end.
                let _ = stream.write_all(format!("HTTP/1.1 {status} X\r\n\r\n{body}").as_bytes()).await;
                std::future::pending().await
            }
        };
        if stream.write_all(text.as_bytes()).await.is_err() || close {
            return;
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let line = lines.next().unwrap().to_owned();
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
    }
    let length = headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { line, headers, body })
}

/// The configuration in this TOML.
pub(super) fn config(toml: &str) -> Result<Config, String> {
    let config: Config = toml::from_str(toml).map_err(|error| error.message().to_owned())?;
    config.validate()?;
    Ok(config)
}

/// The sink of this configuration.
pub(super) fn sink(toml: &str) -> ForwardSink {
    ForwardSink::new(&config(toml).unwrap()).unwrap()
}

/// What comes of delivering one change to a destination that does this.
pub(super) async fn failure_of(act: Act, more: &str) -> Failure {
    let destination = Destination::new([act]).await;
    destination.sink(more).give(&[delivery("m")]).await.expect_err("it fails")
}
