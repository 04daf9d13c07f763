//! The forward sink keeps what every sink promises.

use std::sync::Arc;

use async_trait::async_trait;

use super::destination::{Act, Destination};
use crate::sink::{Delivery, Sink, conformance};

#[async_trait]
impl conformance::Destination for Destination {
    async fn start() -> Self {
        Self::new([]).await
    }

    fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(self.sink(""))
    }

    async fn taken(&mut self) -> Vec<String> {
        Self::taken(self)
    }

    async fn fail_after(&mut self, changes: usize) {
        self.take_then(changes, 500);
    }

    fn refused_after(&mut self, changes: usize) -> Option<Delivery> {
        self.take_then(changes, 422);
        Some(conformance::delivery("refused"))
    }

    async fn go_away(&mut self) {
        Self::go_away(self).await;
    }

    async fn come_back(&mut self) {
        Self::come_back(self).await;
    }
}

impl Destination {
    fn take_then(&self, changes: usize, status: u16) {
        self.then(std::iter::repeat_n(Act::answer(200, ""), changes));
        self.then([Act::answer(status, "")]);
    }
}

conformance::promises!(Destination);
