//! Bodies that were no valid callback, for the commands.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::api::{Answer, InPath, InQuery, asked, limit, read};
use crate::callback;
use crate::http::problem::Problem;
use crate::status::with_milliseconds;
use crate::store;

/// What `GET /api/v1/rejected` may be asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RejectedQuery {
    before: Option<i64>,
    limit: Option<usize>,
}

/// `GET /api/v1/rejected`: the newest first, without their bodies.
pub(super) async fn list(State(admin): State<Arc<Admin>>, query: InQuery<RejectedQuery>) -> Answer<Value> {
    let asked = asked(query)?;
    let rejected = admin.store.list_rejected(asked.before.unwrap_or(i64::MAX), limit(asked.limit)).await?;
    let listed = rejected.iter().map(|one| {
        let received_at = with_milliseconds(one.received_at);
        json!({ "id": one.id, "received_at": received_at, "bytes": one.body.len(), "errors": one.errors })
    });
    Ok(Json(listed.collect()))
}

/// `GET /api/v1/rejected/{id}`: with its body.
pub(super) async fn show(State(admin): State<Arc<Admin>>, id: InPath<i64>) -> Answer<store::Rejected> {
    let id = read(id)?;
    Ok(Json(admin.store.find_rejected(id).await?.ok_or_else(not_there)?))
}

/// `POST /api/v1/rejected/{id}/retry`: reads it anew; when it is valid now it is stored, and kept as rejected no longer.
pub(super) async fn retry(State(admin): State<Arc<Admin>>, id: InPath<i64>) -> Answer<Value> {
    let id = read(id)?;
    // So that nothing is stored of it after it was erased.
    let _one_at_a_time = admin.steering.lock().await;
    let rejected = admin.store.find_rejected(id).await?.ok_or_else(not_there)?;
    let callback = callback::parse(rejected.body.as_bytes()).map_err(|invalid| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "it is still no valid callback")
            .with_errors(invalid.errors().to_vec())
    })?;
    let receipt = admin.store.accept_rejected(&rejected, callback).await?;
    Ok(Json(json!({ "stored": receipt.stored(), "duplicates": receipt.duplicates() })))
}

/// `POST /api/v1/rejected/{id}/drop`
pub(super) async fn drop(State(admin): State<Arc<Admin>>, id: InPath<i64>) -> Answer<Value> {
    let id = read(id)?;
    match admin.store.drop_rejected(id).await? {
        true => Ok(Json(json!({ "dropped": 1 }))),
        false => Err(not_there()),
    }
}

fn not_there() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no rejected callback has this number")
}
