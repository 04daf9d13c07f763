//! Where each sink stands, and how an operator steers it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{StatusCode, Uri};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::api::{Answer, InPath, not_understood, ordered, read};
use crate::dispatch::{Command, Standing};
use crate::http::problem::Problem;
use crate::status::with_milliseconds;
use crate::store::{Replay, Store};

/// The rate of a replay that was not asked for one, in changes a second: beside the fresh ones, nobody's burden.
const DEFAULT_RATE: f64 = 100.0;

/// The rates there may be.
const RATES: std::ops::RangeInclusive<f64> = 0.1..=100_000.0;

/// The sink of this name.
pub(super) fn find(admin: &Admin, name: InPath<String>) -> Result<&Arc<Standing>, Problem> {
    let name = read(name)?;
    admin.sinks.iter().find(|sink| sink.name().as_str() == name).ok_or_else(|| {
        let known: Vec<_> = admin.sinks.iter().map(|sink| sink.name().as_str()).collect();
        Problem::new(StatusCode::NOT_FOUND, format!("no sink has this name; there are: {}", known.join(", ")))
    })
}

/// Has the sink's drain obey.
pub(super) async fn tell(sink: &Standing, command: Command) -> Result<(), Problem> {
    match sink.tell(command).await {
        true => Ok(()),
        false => {
            Err(Problem::unavailable("the receiver is stopping, or its store fails: the sink may not have obeyed"))
        }
    }
}

/// `GET /api/v1/sinks`
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Answer<Vec<Value>> {
    let mut sinks = Vec::with_capacity(admin.sinks.len());
    for sink in &admin.sinks {
        sinks.push(describe(&admin.store, sink).await?);
    }
    Ok(Json(sinks))
}

async fn describe(store: &Store, sink: &Standing) -> Result<Value, Problem> {
    let name = sink.name().as_str();
    let snapshot = sink.snapshot();
    let lag = store.places().get(name).map(|cursor| store.latest() - cursor);
    let oldest = match (lag, snapshot.deferred) {
        (Some(0), 0) => None,
        _ => store.oldest_undelivered(name).await?,
    };
    Ok(json!({
        "name": name,
        "state": snapshot.state(),
        "paused": snapshot.paused,
        "away_since": snapshot.away_since.map(with_milliseconds),
        "held": snapshot.held,
        "lag": lag,
        "oldest_undelivered_at": oldest.map(with_milliseconds),
        "deferred": snapshot.deferred,
        "dead": snapshot.dead,
        "delivered": snapshot.delivered,
        "failed": snapshot.failed,
        "last_success": snapshot.last_success.map(with_milliseconds),
        "last_error": snapshot.last_error,
        "replay": snapshot.replay,
        "last_replay": snapshot.last_replay,
    }))
}

/// `POST /api/v1/sinks/{name}/pause`: it is given nothing until it is resumed, over a restart, too.
pub(super) async fn pause(State(admin): State<Arc<Admin>>, name: InPath<String>) -> Answer<Value> {
    steer(&admin, name, Command::Pause).await
}

/// `POST /api/v1/sinks/{name}/resume`: it is given its changes again; one that is away is tried at once.
pub(super) async fn resume(State(admin): State<Arc<Admin>>, name: InPath<String>) -> Answer<Value> {
    steer(&admin, name, Command::Resume).await
}

/// `POST /api/v1/sinks/{name}/replay/cancel`: ends the replay, if there is one.
pub(super) async fn cancel_replay(State(admin): State<Arc<Admin>>, name: InPath<String>) -> Answer<Value> {
    steer(&admin, name, Command::CancelReplay).await
}

/// Answers where the sink stands when it has obeyed.
async fn steer(admin: &Admin, name: InPath<String>, command: Command) -> Answer<Value> {
    let sink = find(admin, name)?;
    tell(sink, command).await?;
    Ok(Json(describe(&admin.store, sink).await?))
}

/// What `POST /api/v1/sinks/{name}/replay` may be asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayOrder {
    /// Changes received at this time or later,
    since: Timestamp,
    /// and before this one; unset: all that the sink was given.
    until: Option<Timestamp>,
    /// Changes a second at most.
    rate: Option<f64>,
    #[serde(default)]
    dry_run: bool,
}

/// `POST /api/v1/sinks/{name}/replay`: gives stored changes again. `changes` counts those it covers, before the sink's filter. Those
/// that the sink has still to be given are not among them: they come anyway.
pub(super) async fn replay(
    State(admin): State<Arc<Admin>>,
    name: InPath<String>,
    uri: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Value> {
    let sink = find(&admin, name)?;
    let order: ReplayOrder = ordered(&uri, body)?;
    let rate = order.rate.unwrap_or(DEFAULT_RATE);
    if !RATES.contains(&rate) {
        return Err(not_understood(format!("rate is {} to {} changes a second", RATES.start(), RATES.end())));
    }
    if order.until.is_some_and(|until| until <= order.since) {
        return Err(not_understood("until is not after since".to_owned()));
    }
    // One at a time, so that two that come together don't both find no replay going on.
    let _one_at_a_time = admin.steering.lock().await;
    if !order.dry_run && sink.snapshot().replay.is_some() {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "a replay of this sink is going on: cancel it, or wait for its end",
        ));
    }
    let store = &admin.store;
    let place = store.places().get(sink.name().as_str()).copied().unwrap_or_default();
    let until = match order.until {
        Some(until) => store.before(until).await?.min(place),
        None => place,
    };
    let position = store.before(order.since).await?.min(until);
    let changes = store.count(position, until).await?;
    let starts = !order.dry_run && changes > 0;
    if starts {
        tell(sink, Command::Replay(Replay { position, until, rate, delivered: 0 })).await?;
    }
    Ok(Json(json!({ "changes": changes, "position": position, "until": until, "rate": rate, "started": starts })))
}
