//! Whether the receiver lives, and whether it can do its work.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::{Admin, guard};
use crate::status::with_milliseconds;
use crate::store;

/// A commit that takes longer than this is no commit that works.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// The process answers.
pub(super) async fn live() -> Json<Value> {
    Json(json!({ "live": true }))
}

/// 200 when a real commit works now or did a moment ago and every sink's drain comes round; else 503. Each check by its name.
/// Whoever may use the API also sees the instances: that one is silent is no reason not to be ready.
pub(super) async fn ready(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    let stopping = admin.stopping.load(Ordering::Acquire);
    let store = match probe(&admin).await {
        Some(Ok(())) => json!({ "ok": true }),
        Some(Err(error)) => json!({ "ok": false, "detail": error.to_string() }),
        None => json!({ "ok": false, "detail": "a commit takes too long" }),
    };
    let mut checks = Map::new();
    checks.insert("store".into(), store);
    checks.insert("serving".into(), json!({ "ok": !stopping }));
    let places = admin.store.places();
    let latest = admin.store.latest();
    for sink in &admin.sinks {
        let behind = places.get(sink.name().as_str()).map(|cursor| latest - cursor);
        let snapshot = sink.snapshot();
        let mut check = json!({ "ok": sink.is_moving() && !snapshot.store_fails, "lag": behind });
        check["state"] = json!(snapshot.state());
        if let Some(since) = snapshot.away_since {
            check["away_since"] = json!(with_milliseconds(since));
        }
        checks.insert(format!("sink:{}", sink.name()), check);
    }
    let ready = checks.values().all(|check| check["ok"] == true);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut answer = json!({ "ready": ready, "checks": checks });
    if guard::refusal(&admin, &headers).is_none() {
        answer["instances"] = json!(admin.store.instances());
    }
    (status, Json(answer)).into_response()
}

/// Whether everything works that a restart might set right: commits, and every sink's drain. Room is nothing that a restart makes:
/// a receiver whose store is full is well, and answers 503.
pub(crate) async fn is_well(admin: &Admin) -> bool {
    let commits = matches!(probe(admin).await, Some(Ok(()) | Err(store::Error::Full)));
    commits && admin.sinks.iter().all(|sink| sink.is_moving())
}

/// Whether a real commit works; `None` when it doesn't come back in time.
async fn probe(admin: &Admin) -> Option<Result<(), store::Error>> {
    tokio::time::timeout(PROBE_TIMEOUT, admin.store.probe()).await.ok()
}
