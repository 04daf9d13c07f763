//! What became of callbacks: counted where they are answered, by reasons out of a closed set.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;

use crate::metrics::Seconds;

/// Why a callback was answered 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// At least one of its changes is new.
    New,
    /// Every change of it was stored already.
    Known,
    /// It is of another type, is kept as rejected, and the configuration has these answered 200.
    OtherType,
}

impl Taken {
    const ALL: [Self; 3] = [Self::New, Self::Known, Self::OtherType];

    fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Known => "known",
            Self::OtherType => "other_type",
        }
    }
}

/// Why a callback was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// There is nothing at its path.
    Path,
    /// It was no POST.
    Method,
    /// The caller's address is not an allowed one.
    Address,
    /// The secret is missing or wrong.
    Secret,
    /// It doesn't say that it is JSON, or has an encoding.
    ContentType,
    /// The body is over the limit.
    TooLarge,
    /// Headers or body took longer than they may.
    Slow,
    /// The body ended too early, or its chunks are malformed.
    BrokenOff,
    /// The body is not one JSON object.
    NotAnObject,
    /// It is another type of callback.
    OtherType,
    /// Fields are missing or of the wrong kind.
    Fields,
    /// There are too many connections.
    Connections,
    /// Too many callbacks are under way.
    InFlight,
    /// The store's cap or the disk is reached.
    StoreFull,
    /// The disk or the database fails.
    StoreFailing,
    /// The commit takes too long.
    StoreSlow,
    /// The receiver is stopping.
    Stopping,
    /// A fault in the program.
    Fault,
}

impl Reason {
    const ALL: [Self; Self::Fault as usize + 1] = [
        Self::Path,
        Self::Method,
        Self::Address,
        Self::Secret,
        Self::ContentType,
        Self::TooLarge,
        Self::Slow,
        Self::BrokenOff,
        Self::NotAnObject,
        Self::OtherType,
        Self::Fields,
        Self::Connections,
        Self::InFlight,
        Self::StoreFull,
        Self::StoreFailing,
        Self::StoreSlow,
        Self::Stopping,
        Self::Fault,
    ];

    /// What the caller is answered.
    pub(crate) fn status(self) -> StatusCode {
        self.facts().0
    }

    /// `rejected` is kept, `unavailable` is the receiver's own trouble, `refused` is the caller's.
    fn outcome(self) -> &'static str {
        match self.status() {
            StatusCode::UNPROCESSABLE_ENTITY => "rejected",
            StatusCode::SERVICE_UNAVAILABLE => "unavailable",
            _ => "refused",
        }
    }

    fn name(self) -> &'static str {
        self.facts().1
    }

    fn facts(self) -> (StatusCode, &'static str) {
        match self {
            Self::Path => (StatusCode::NOT_FOUND, "path"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method"),
            Self::Address => (StatusCode::FORBIDDEN, "address"),
            Self::Secret => (StatusCode::UNAUTHORIZED, "secret"),
            Self::ContentType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, "slow"),
            Self::BrokenOff => (StatusCode::BAD_REQUEST, "broken_off"),
            Self::NotAnObject => (StatusCode::BAD_REQUEST, "not_an_object"),
            Self::OtherType => (StatusCode::UNPROCESSABLE_ENTITY, "other_type"),
            Self::Fields => (StatusCode::UNPROCESSABLE_ENTITY, "fields"),
            Self::Connections => (StatusCode::SERVICE_UNAVAILABLE, "connections"),
            Self::InFlight => (StatusCode::SERVICE_UNAVAILABLE, "in_flight"),
            Self::StoreFull => (StatusCode::SERVICE_UNAVAILABLE, "store_full"),
            Self::StoreFailing => (StatusCode::SERVICE_UNAVAILABLE, "store_failing"),
            Self::StoreSlow => (StatusCode::SERVICE_UNAVAILABLE, "store_slow"),
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            Self::Fault => (StatusCode::SERVICE_UNAVAILABLE, "fault"),
        }
    }
}

/// How many callbacks were answered how, since the start.
pub(crate) struct Counts {
    taken: [AtomicU64; Taken::ALL.len()],
    refused: [AtomicU64; Reason::ALL.len()],
    /// From the end of the headers to the answer, of those answered 200.
    pub(crate) ack: Seconds,
}

impl Counts {
    pub(crate) fn new() -> Self {
        Self {
            taken: Default::default(),
            refused: Default::default(),
            ack: Seconds::new(
                "plugchat_ack_seconds",
                "From the end of a callback's headers to its answer 200, the commit to disk included.",
            ),
        }
    }

    pub(super) fn taken(&self, how: Taken, after: Duration) {
        self.taken[how as usize].fetch_add(1, Ordering::Relaxed);
        self.ack.observe(after);
    }

    pub(super) fn refused(&self, why: Reason) {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Each outcome, its reason, and how many there were.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let taken = Taken::ALL.map(|how| ("accepted", how.name(), count(&self.taken[how as usize])));
        let refused = Reason::ALL.map(|why| (why.outcome(), why.name(), count(&self.refused[why as usize])));
        taken.into_iter().chain(refused)
    }
}
