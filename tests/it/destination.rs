//! A destination of the forward sink: a real HTTP server that does what it is told, and writes down what it took.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::support::eventually;

/// What is done with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    /// Answered with this status, and taken if that is a success.
    Status(u16),
    /// Answered with this status, after a while.
    Slow(u16, Duration),
    /// Never answered.
    Hang,
}

/// Decides by the event and by how often it came (from 1).
type Script = Box<dyn Fn(&Value, u32) -> Reply + Send + Sync>;

/// A destination that listens until it is dropped.
pub(crate) struct Destination {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _stop: oneshot::Sender<()>,
}

struct Shared {
    script: Script,
    /// How often each event came, by its id.
    came: Mutex<HashMap<String, u32>>,
    taken: Mutex<Vec<Value>>,
}

impl Destination {
    /// One on a free port.
    pub(crate) fn start(script: impl Fn(&Value, u32) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), script)
    }

    /// One at this address, as soon as it is free.
    pub(crate) fn start_at(address: SocketAddr, script: impl Fn(&Value, u32) -> Reply + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared { script: Box::new(script), came: Mutex::default(), taken: Mutex::default() });
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = eventually("the port is free", || std::net::TcpListener::bind(address).ok());
                listener.set_nonblocking(true).expect("it is a socket");
                let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime is here");
                tell.send(listener.local_addr().expect("it is bound")).expect("somebody waits");
                let take = axum::routing::post(move |body: String| async move { serving.take(&body).await });
                tokio::select! {
                    served = axum::serve(listener, axum::Router::new().route("/", take)) => served.expect("it serves"),
                    _ = stopped => {}
                }
            });
        });
        Self { address: told.recv().expect("it listens"), shared, _stop: stop }
    }

    /// The events that it took, in order.
    pub(crate) fn taken(&self) -> Vec<Value> {
        self.shared.taken.lock().expect("no test panics in it").clone()
    }

    /// How many requests came.
    pub(crate) fn came(&self) -> usize {
        self.shared.came.lock().expect("no test panics in it").values().map(|times| *times as usize).sum()
    }

    /// The configuration of a forward sink that posts here.
    pub(crate) fn sink(&self, name: &str) -> String {
        format!("[sinks.{name}.forward]\nurl = \"http://{}/\"\n", self.address)
    }
}

impl Shared {
    async fn take(&self, body: &str) -> StatusCode {
        let event: Value = serde_json::from_str(body).expect("events are JSON");
        let reply = {
            // A callback has the message's.
            let id = event["id"].as_str().or(event["ids"][0].as_str()).expect("each has an id").to_owned();
            let mut came = self.came.lock().expect("no test panics in it");
            let times = came.entry(id).and_modify(|times| *times += 1).or_insert(1);
            (self.script)(&event, *times)
        };
        let status = match reply {
            Reply::Status(status) => status,
            Reply::Slow(status, pause) => {
                tokio::time::sleep(pause).await;
                status
            }
            Reply::Hang => std::future::pending().await,
        };
        let status = StatusCode::from_u16(status).expect("a status");
        if status.is_success() {
            self.taken.lock().expect("no test panics in it").push(event);
        }
        status
    }
}
