//! What is counted and logged of requests that were not taken: all are counted, and no more than a few a second logged. Whoever
//! finds the port must not be able to fill the disk with log lines.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::counts::Counts;
use super::problem::Problem;
use crate::throttle::Throttle;

/// The most lines in one [`WINDOW`].
const MAX_LINES: u64 = 20;
const WINDOW: Duration = Duration::from_secs(1);

/// Counts and logs refusals.
pub(crate) struct Refusals {
    counts: Arc<Counts>,
    lines: Throttle,
}

impl Refusals {
    pub(super) fn new(counts: Arc<Counts>) -> Self {
        Self { counts, lines: Throttle::new(MAX_LINES, WINDOW) }
    }

    /// `route` is a template: a path as it came may have the secret in it.
    pub(super) fn log(&self, route: &str, problem: &Problem, caller: IpAddr) {
        if let Some(reason) = problem.reason {
            self.counts.refused(reason);
        }
        let unlogged = self.lines.left_out();
        if unlogged > 0 {
            tracing::warn!(unlogged, "more callbacks were not taken than are logged");
        }
        if !self.lines.admit() {
            return;
        }
        tracing::warn!(
            status = problem.status.as_u16(),
            detail = problem.detail(),
            route,
            %caller,
            "callback not taken"
        );
    }
}
