//! Following the log: `GET /api/v1/changes` with `Accept: text/event-stream`, as server-sent events by the WHATWG's specification.
//!
//! - Each change is an event `change` whose id is its sequence number and whose data is what the same route lists. `gap` says that
//!   changes are missing, and between which two numbers.
//! - A comment every [`HEARTBEAT`] shows that the connection lives. It has an id as well: a place that a filter has gone past without a
//!   change is one to go on from.
//! - Nothing waits in memory for a follower that is slow: the next part of the log is read when the last one is written.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Admin;
use super::api::{ChangesQuery, Stored, not_understood};
use crate::http::problem::Problem;
use crate::store::{Follower, Part};

/// The most followers at once.
pub(super) const MAX_FOLLOWERS: usize = 128;

/// The longest that a follower hears nothing.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How long a follower that has seen everything is given nothing more: what is stored meanwhile comes together then, and costs less.
const REST: Duration = Duration::from_millis(100);

/// How long a follower is asked to wait before it connects again.
const RETRY: Duration = Duration::from_secs(1);

/// Room for followers.
pub(crate) struct Followers(Arc<Semaphore>);

impl Default for Followers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_FOLLOWERS)))
    }
}

/// Whether a request is for a stream of events.
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = accepted.flat_map(|value| value.split(',')).filter_map(|range| range.split(';').next());
    types.any(|essence| essence.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// Follows what the query asks for: after the last event that the follower has had, else from where it says, else from now on.
pub(super) async fn follow(admin: &Admin, headers: &HeaderMap, query: &ChangesQuery) -> Result<Response, Problem> {
    if query.limit.is_some() {
        return Err(not_understood("limit is for lists: this stream has no end".to_owned()));
    }
    let permit = Arc::clone(&admin.followers.0)
        .try_acquire_owned()
        .map_err(|_| Problem::unavailable("there are as many followers as may be"))?;
    let store = &admin.store;
    let asked = query.place(store).await?;
    let place = last_event_id(headers)?.or(asked).unwrap_or_else(|| store.latest()).max(0);
    let following = Following::new(store.follow(query.filter(), place), permit);
    let stream = futures_util::stream::unfold(following, |mut following| async move {
        let block = following.next().await?;
        Some((Ok::<_, Infallible>(block), following))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(stream)).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| text.parse().ok());
    id.map(Some).ok_or_else(|| not_understood("Last-Event-ID is not a change's number".to_owned()))
}

/// One follower's stream.
struct Following {
    follower: Follower,
    begun: bool,
    rests_until: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Following {
    fn new(follower: Follower, permit: OwnedSemaphorePermit) -> Self {
        Self { follower, begun: false, rests_until: Instant::now(), _permit: permit }
    }

    /// What is written next, once there is something; `None` when the store fails or has stopped: whoever follows comes again.
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.begun, true) {
            // At once, so that the follower knows its place before anything happens.
            return Some(format!("retry: {}\nid: {}\n\n", RETRY.as_millis(), self.follower.place()).into());
        }
        let beat = Instant::now() + HEARTBEAT;
        loop {
            sleep_until(self.rests_until).await;
            let after = self.follower.place();
            let (is_last, events) = self.follower.read(move |part| (part.is_last, events(after, part))).await.ok()?;
            if is_last {
                self.rests_until = Instant::now() + REST;
            }
            if !events.is_empty() {
                return Some(events.into());
            }
            match timeout_at(beat, self.follower.wait()).await {
                Ok(Err(_)) => return None,
                // There is more, whether it matches or not.
                Ok(Ok(())) if Instant::now() < beat => {}
                _ => return Some(format!(": alive\nid: {}\n\n", self.follower.place()).into()),
            }
        }
    }
}

/// What `gap` says: changes with the numbers between are not there any more. When it goes on before the place that it was at, the
/// store is an older one than before.
#[derive(Serialize)]
struct Gap {
    after: i64,
    resumed_after: i64,
}

/// The events of a part of the log that was read after `after`.
fn events(after: i64, part: Part) -> String {
    let mut text = String::new();
    if let Some(resumed_after) = part.moved_to {
        write_event(&mut text, resumed_after, "gap", &Gap { after, resumed_after });
    }
    for entry in part.entries {
        write_event(&mut text, entry.seq, "change", &Stored::from(entry));
    }
    text
}

fn write_event(to: &mut String, id: i64, name: &str, data: &impl Serialize) {
    let json = serde_json::to_string(data).expect("what is stored is text, numbers and JSON");
    // A callback is kept as it came, in several lines perhaps. Between its values, where alone they can be, they are spaces.
    let line = json.replace(['\r', '\n'], " ");
    write!(to, "id: {id}\nevent: {name}\ndata: {line}\n\n").expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests;
