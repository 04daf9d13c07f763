//! For log lines that something outside can cause any number of: a few are written, and how many were left out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets so many lines through in each window of time.
#[derive(Debug)]
pub(crate) struct Throttle {
    most: u64,
    window: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    began: Instant,
    count: u64,
    left_out: u64,
}

impl Throttle {
    /// At most `most` lines in each `window`.
    pub(crate) fn new(most: u64, window: Duration) -> Self {
        Self { most, window, state: Mutex::new(State { began: Instant::now(), count: 0, left_out: 0 }) }
    }

    /// Whether one more line may be written.
    pub(crate) fn admit(&self) -> bool {
        self.update(|state| {
            state.count += 1;
            state.count <= self.most
        })
    }

    /// How many were not written, in windows that are over and since this was last asked.
    pub(crate) fn left_out(&self) -> u64 {
        self.update(|state| std::mem::take(&mut state.left_out))
    }

    fn update<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.began.elapsed() >= self.window {
            let left_out = state.left_out + state.count.saturating_sub(self.most);
            *state = State { began: Instant::now(), count: 0, left_out };
        }
        act(&mut state)
    }
}
