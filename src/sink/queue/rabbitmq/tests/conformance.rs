//! The RabbitMQ sink keeps what every sink promises.

use std::sync::Arc;

use async_trait::async_trait;

use super::place::{Place, id};
use crate::sink::broker::proxy::Proxy;
use crate::sink::{Delivery, Sink, conformance};

struct Destination {
    place: Place,
    proxy: Proxy,
    taken: Vec<String>,
}

#[async_trait]
impl conformance::Destination for Destination {
    async fn start() -> Self {
        let place = Place::new().await;
        let proxy = Proxy::start(place.address, "\"MessageStatusCallback\"");
        Self { place, proxy, taken: Vec::new() }
    }

    fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(self.place.sink_by(self.proxy.address(), ""))
    }

    async fn taken(&mut self) -> Vec<String> {
        self.taken.extend(self.place.take().await.iter().map(id));
        self.taken.clone()
    }

    async fn fail_after(&mut self, changes: usize) {
        self.proxy.cut_after(changes);
    }

    fn refused_after(&mut self, _changes: usize) -> Option<Delivery> {
        let mut unroutable = conformance::delivery("refused");
        unroutable.change.facts.instance_id = Some("elsewhere".into());
        Some(unroutable)
    }

    async fn go_away(&mut self) {
        self.proxy.refuse();
    }

    async fn come_back(&mut self) {
        self.proxy.accept();
    }
}

conformance::promises!(Destination);
