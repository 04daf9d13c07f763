//! What the parts that measure have in common. What they count is theirs; `admin` puts it all together for whoever scrapes.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts};

/// The upper bounds of every histogram's buckets, in seconds: from a commit to a good disk to the longest wait for one.
const BUCKETS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How long something takes, in seconds. Observing takes no lock.
#[derive(Clone, Debug)]
pub(crate) struct Seconds(Histogram);

impl Seconds {
    /// One under this name, `…_seconds`, with a sentence about it.
    pub(crate) fn new(name: &str, help: &str) -> Self {
        let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        Self(Histogram::with_opts(options).expect("the names are constants that are valid, and the bounds ascend"))
    }

    pub(crate) fn observe(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }

    /// For a registry.
    pub(crate) fn collector(&self) -> Box<Histogram> {
        Box::new(self.0.clone())
    }
}
