//! Taking one person out of what is stored.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::Uri;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::api::{Answer, not_understood, ordered};
use super::sinks::tell;
use crate::dispatch::Command;
use crate::http::problem::Problem;
use crate::phone::Number;

/// What `POST /api/v1/erase` may be asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// In any form.
    phone: String,
    #[serde(default)]
    dry_run: bool,
}

/// `POST /api/v1/erase`: deletes all that has this number in it, and answers how much that was. Answered 200, it is gone from the files,
/// too; broken off or answered otherwise, some of it is, and doing it again does the rest.
pub(super) async fn erase(
    State(admin): State<Arc<Admin>>,
    uri: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Value> {
    let Order { phone, dry_run } = ordered(&uri, body)?;
    let number = Number::parse(&phone).map_err(|error| not_understood(format!("phone: {error}")))?;
    // Nothing is put back into the log meanwhile.
    let _one_at_a_time = admin.steering.lock().await;
    let store = &admin.store;
    let erasure = store.erasure(number, dry_run);
    let rejected = store.erase_rejected(&erasure).await?;
    let found = store.find_changes(&erasure).await?;
    let messages = store.erase_messages(&erasure, &found).await?;
    let (deferred, changes) = store.erase_changes(&erasure, &found).await?;
    // A drain that was in the middle of a change may have written it down until now, but not after this.
    if !dry_run {
        for sink in &admin.sinks {
            tell(sink, Command::Forget(Arc::clone(&found))).await?;
        }
    }
    let dead_letters = store.erase_dead(&erasure).await?;
    let instances = store.erase_instances(&erasure).await?;
    if !dry_run {
        for sink in &admin.sinks {
            // There may be room again for a sink that was held.
            tell(sink, Command::Reload).await?;
        }
        tracing::info!(
            phone = erasure.number.masked(),
            changes,
            messages,
            deferred,
            dead_letters,
            rejected,
            instances,
            "what is stored of one person is erased"
        );
        if !store.erase_traces().await? {
            return Err(Problem::unavailable(
                "it is deleted, but something that reads the store for long, such as a backup, keeps traces of it in the \
                 database's log: erase it again when that has ended",
            ));
        }
    }
    let sinks: Vec<_> = admin.sinks.iter().map(|sink| sink.name().as_str()).collect();
    Ok(Json(json!({
        "changes": changes,
        "messages": messages,
        "deferred": deferred,
        "dead_letters": dead_letters,
        "rejected": rejected,
        "instances": instances,
        "dry_run": dry_run,
        "sinks": sinks,
    })))
}
