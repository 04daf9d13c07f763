//! The NATS sink keeps what every sink promises.

use std::sync::Arc;

use async_trait::async_trait;

use super::{STREAM, large, message_ids, sink, stream_at};
use crate::sink::broker::nats_client::Client;
use crate::sink::broker::proxy::Proxy;
use crate::sink::broker::{Server, nats};
use crate::sink::conformance::{self, Destination};
use crate::sink::{Delivery, Sink};

struct Stream {
    _server: Server,
    proxy: Proxy,
    client: Client,
}

#[async_trait]
impl Destination for Stream {
    async fn start() -> Self {
        let server = nats::start_with("max_payload: 10000");
        let proxy = Proxy::start(server.address(), "\"MessageStatusCallback\"");
        let client = stream_at(server.address());
        Self { _server: server, proxy, client }
    }

    fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(sink(self.proxy.address(), ""))
    }

    async fn taken(&mut self) -> Vec<String> {
        message_ids(&self.client.stored(STREAM))
    }

    async fn fail_after(&mut self, changes: usize) {
        self.proxy.cut_after(changes);
    }

    fn refused_after(&mut self, _changes: usize) -> Option<Delivery> {
        Some(large("refused", 10_000))
    }

    async fn go_away(&mut self) {
        self.proxy.refuse();
    }

    async fn come_back(&mut self) {
        self.proxy.accept();
    }
}

conformance::promises!(Stream);
