//! What is logged of requests that were not taken: each, but no more than a few a second. Whoever finds the port must not be
//! able to fill the disk with log lines.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::problem::Problem;

/// The most lines in one [`WINDOW`].
const MAX_LINES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(1);

/// Logs refusals.
pub(crate) struct Refusals {
    window: Mutex<Window>,
}

struct Window {
    began: Instant,
    count: u32,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self { window: Mutex::new(Window { began: Instant::now(), count: 0 }) }
    }

    /// `route` is a template: a path as it came may have the secret in it.
    pub(super) fn log(&self, route: &str, problem: &Problem, caller: IpAddr) {
        let unlogged = {
            let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            let over = window.began.elapsed() >= WINDOW;
            let unlogged = if over { window.count.saturating_sub(MAX_LINES) } else { 0 };
            if over {
                *window = Window { began: Instant::now(), count: 0 };
            }
            window.count += 1;
            if window.count > MAX_LINES {
                return;
            }
            unlogged
        };
        if unlogged > 0 {
            tracing::warn!(unlogged, "more callbacks were not taken than are logged");
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
