//! The Redis sink keeps what every sink promises.

use std::sync::Arc;

use async_trait::async_trait;

use super::destination;
use crate::sink::broker::proxy::Proxy;
use crate::sink::{Delivery, Sink, conformance};
use crate::status::Status;

/// A server behind a proxy. What is not `READ` goes into a stream of its own, and that of `WRONG` is none.
struct Destination {
    own: destination::Destination,
    proxy: Proxy,
}

#[async_trait]
impl conformance::Destination for Destination {
    async fn start() -> Self {
        let own = destination::Destination::start();
        own.tell("SET changes:WRONG text");
        let proxy = Proxy::start(own.server.address(), "\"MessageStatusCallback\"");
        Self { own, proxy }
    }

    fn sink(&self) -> Arc<dyn Sink> {
        let url = format!("redis://{}", self.proxy.address());
        Arc::new(destination::sink_to(&url, "stream = \"changes:{status}\""))
    }

    async fn taken(&mut self) -> Vec<String> {
        self.own.message_ids("changes:READ")
    }

    async fn fail_after(&mut self, changes: usize) {
        self.proxy.cut_after(changes);
    }

    fn refused_after(&mut self, _: usize) -> Option<Delivery> {
        let mut delivery = conformance::delivery("refused");
        delivery.change.facts.status = Status::new("wrong");
        Some(delivery)
    }

    async fn go_away(&mut self) {
        self.proxy.refuse();
    }

    async fn come_back(&mut self) {
        self.proxy.accept();
    }
}

conformance::promises!(Destination);
