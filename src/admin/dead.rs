//! Dead letters: to look at, to give again, to let go.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::Uri;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::api::{Answer, InPath, InQuery, asked, limit, ordered};
use super::sinks::{find, tell};
use crate::dispatch::{Command, MAX_DEFERRED};
use crate::store::{Dead, DeadQuery, Reason};

/// How many are given back in one transaction: others wait for its end.
const CHUNK: usize = 500;

/// What `GET /api/v1/sinks/{name}/dead` may be asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    #[serde(default)]
    after: i64,
    limit: Option<usize>,
    reason: Option<Reason>,
    id: Option<i64>,
}

/// `GET /api/v1/sinks/{name}/dead`: in the order they died; go on with `after` = the last one's `id`.
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    name: InPath<String>,
    query: InQuery<ListQuery>,
) -> Answer<Vec<Dead>> {
    let sink = find(&admin, name)?;
    let ListQuery { after, limit: asked_limit, reason, id } = asked(query)?;
    let query = meant(reason, id);
    Ok(Json(admin.store.dead(sink.name().as_str(), query, after, limit(asked_limit)).await?))
}

/// What `POST …/dead/retry` and `POST …/dead/drop` may be asked. Nothing means all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    reason: Option<Reason>,
    id: Option<i64>,
    #[serde(default)]
    dry_run: bool,
}

/// `POST /api/v1/sinks/{name}/dead/retry`: makes them due at once, with all their attempts before them; as many as may be deferred.
pub(super) async fn retry(
    State(admin): State<Arc<Admin>>,
    name: InPath<String>,
    uri: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Value> {
    let sink = find(&admin, name)?;
    let Order { reason, id, dry_run } = ordered(&uri, body)?;
    let (name, query) = (sink.name().as_str(), meant(reason, id));
    // One at a time, so that two that come together don't both use the same room.
    let _one_at_a_time = admin.steering.lock().await;
    let matching = admin.store.count_dead(name, &query).await?;
    let mut room = if dry_run { 0 } else { MAX_DEFERRED.saturating_sub(sink.snapshot().deferred) };
    let mut retried = 0;
    while room > 0 {
        let revived = admin.store.revive_dead(name, query.clone(), room.min(CHUNK)).await?;
        if revived == 0 {
            break;
        }
        (room, retried) = (room - revived, retried + revived);
    }
    if retried > 0 {
        tracing::info!(sink = name, changes = retried, "dead letters are given again");
        tell(sink, Command::Reload).await?;
    }
    Ok(Json(json!({ "matching": matching, "retried": retried })))
}

/// `POST /api/v1/sinks/{name}/dead/drop`: lets them go for good.
pub(super) async fn drop(
    State(admin): State<Arc<Admin>>,
    name: InPath<String>,
    uri: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Value> {
    let sink = find(&admin, name)?;
    let Order { reason, id, dry_run } = ordered(&uri, body)?;
    let (name, query) = (sink.name().as_str(), meant(reason, id));
    let matching = admin.store.count_dead(name, &query).await?;
    let mut dropped = 0;
    if !dry_run && matching > 0 {
        dropped = admin.store.drop_dead(name, query).await?;
        tracing::info!(sink = name, changes = dropped, "dead letters are dropped");
        // There may be room again for a sink that was held.
        tell(sink, Command::Reload).await?;
    }
    Ok(Json(json!({ "matching": matching, "dropped": dropped })))
}

fn meant(reason: Option<Reason>, id: Option<i64>) -> DeadQuery {
    DeadQuery { reason: reason.map(|reason| reason.name().to_owned()), id }
}
