//! What is stored, for the commands and for programs.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Admin;
use crate::callback;
use crate::http::problem::Problem;
use crate::status::{Rank, Status, StatusChange, with_milliseconds};
use crate::store::{self, Entry};

/// The most changes in one answer.
const MAX_LIMIT: usize = 1000;

/// How many are in an answer that was not asked for a number.
const DEFAULT_LIMIT: usize = 100;

/// The most changes of one message that are shown: a story may have a thousand viewers.
const MAX_HISTORY: usize = 10_000;

type Answer<T> = Result<Json<T>, Problem>;

/// A change with its place in the log.
#[derive(Serialize)]
pub(super) struct Stored {
    seq: i64,
    #[serde(flatten)]
    change: StatusChange,
}

impl From<Entry> for Stored {
    fn from(Entry { seq, change }: Entry) -> Self {
        Self { seq, change }
    }
}

/// What happened to a message for one recipient.
#[derive(Serialize)]
pub(super) struct Recipient {
    instance_id: Option<String>,
    recipient: String,
    /// The highest-ranked status: never a step back.
    status: Option<&'static str>,
    changes: Vec<History>,
}

/// A change, and where each sink stands with it.
#[derive(Serialize)]
pub(super) struct History {
    #[serde(flatten)]
    stored: Stored,
    sinks: BTreeMap<String, &'static str>,
}

/// All that is kept of a message.
#[derive(Serialize)]
pub(super) struct Message {
    message_id: String,
    recipients: Vec<Recipient>,
}

/// `GET /api/v1/messages/{message_id}`
pub(super) async fn message(State(admin): State<Arc<Admin>>, message_id: InPath<String>) -> Answer<Message> {
    let message_id = read(message_id)?;
    let entries = admin.store.message(message_id.clone(), MAX_HISTORY).await?;
    if entries.is_empty() {
        return Err(Problem::new(StatusCode::NOT_FOUND, "no change of this message is stored"));
    }
    let places = admin.store.places();
    let mut recipients: Vec<Recipient> = Vec::new();
    for entry in entries {
        let facts = &entry.change.facts;
        let is_same =
            |other: &&mut Recipient| other.instance_id == facts.instance_id && other.recipient == facts.recipient();
        let reached = facts.status.rank().max(entry.change.previous).map(Rank::name);
        let sinks = admin.sinks.iter().map(|sink| {
            let state = match places.get(sink.name().as_str()) {
                _ if !sink.filter().matches(&entry.change) => "filtered",
                Some(cursor) if *cursor >= entry.seq => "delivered",
                _ => "waiting",
            };
            (sink.name().to_string(), state)
        });
        let sinks = sinks.collect();
        let (instance_id, recipient) = (facts.instance_id.clone(), facts.recipient().to_owned());
        let known = recipients.iter_mut().find(is_same);
        let history = History { stored: entry.into(), sinks };
        match known {
            Some(known) => {
                known.status = reached.or(known.status);
                known.changes.push(history);
            }
            None => recipients.push(Recipient { instance_id, recipient, status: reached, changes: vec![history] }),
        }
    }
    Ok(Json(Message { message_id, recipients }))
}

/// What `GET /api/v1/changes` may be asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangesQuery {
    #[serde(default)]
    after: i64,
    limit: Option<usize>,
    status: Option<String>,
    instance: Option<String>,
    phone: Option<String>,
}

/// A part of the log.
#[derive(Serialize)]
pub(super) struct Changes {
    changes: Vec<Stored>,
    next: i64,
}

/// `GET /api/v1/changes`: in the order stored. `next` is the `after` to go on with; it has moved when nothing matched, too.
pub(super) async fn changes(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<ChangesQuery>, QueryRejection>,
) -> Answer<Changes> {
    let Query(asked) = query.map_err(|error| not_understood(error.body_text()))?;
    let query = store::Query { status: asked.status.map(Status::new), instance_id: asked.instance, phone: asked.phone };
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let page = admin.store.changes(query, asked.after, limit).await?;
    Ok(Json(Changes { changes: page.entries.into_iter().map(Stored::from).collect(), next: page.next }))
}

/// `GET /api/v1/sinks`
pub(super) async fn sinks(State(admin): State<Arc<Admin>>) -> Json<Value> {
    let (places, latest) = (admin.store.places(), admin.store.latest());
    let sinks = admin.sinks.iter().map(|sink| {
        let snapshot = sink.snapshot();
        let cursor = places.get(sink.name().as_str()).copied();
        json!({
            "name": sink.name().as_str(),
            "state": snapshot.state(),
            "paused": snapshot.paused,
            "away_since": snapshot.away_since,
            "held": snapshot.held,
            "lag": cursor.map(|cursor| latest - cursor),
            "deferred": snapshot.deferred,
            "dead": snapshot.dead,
            "delivered": snapshot.delivered,
            "failed": snapshot.failed,
            "last_success": snapshot.last_success,
            "last_error": snapshot.last_error,
            "replay": snapshot.replay,
        })
    });
    Json(sinks.collect())
}

/// What `GET /api/v1/rejected` may be asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RejectedQuery {
    before: Option<i64>,
    limit: Option<usize>,
}

/// `GET /api/v1/rejected`: the newest first, without their bodies.
pub(super) async fn list_rejected(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<RejectedQuery>, QueryRejection>,
) -> Answer<Value> {
    let Query(asked) = query.map_err(|error| not_understood(error.body_text()))?;
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let rejected = admin.store.list_rejected(asked.before.unwrap_or(i64::MAX), limit).await?;
    let listed = rejected.iter().map(|one| {
        let received_at = with_milliseconds(one.received_at);
        json!({ "id": one.id, "received_at": received_at, "bytes": one.body.len(), "errors": one.errors })
    });
    Ok(Json(listed.collect()))
}

/// `GET /api/v1/rejected/{id}`: with its body.
pub(super) async fn show_rejected(State(admin): State<Arc<Admin>>, id: InPath<i64>) -> Answer<store::Rejected> {
    let id = read(id)?;
    Ok(Json(admin.store.find_rejected(id).await?.ok_or_else(not_there)?))
}

/// `POST /api/v1/rejected/{id}/retry`: reads it anew; when it is valid now it is stored, and kept as rejected no longer.
pub(super) async fn retry_rejected(State(admin): State<Arc<Admin>>, id: InPath<i64>) -> Answer<Value> {
    let id = read(id)?;
    let rejected = admin.store.find_rejected(id).await?.ok_or_else(not_there)?;
    let callback = callback::parse(rejected.body.as_bytes()).map_err(|invalid| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "it is still no valid callback")
            .with_errors(invalid.errors().to_vec())
    })?;
    let receipt = admin.store.accept_rejected(&rejected, callback).await?;
    Ok(Json(json!({ "stored": receipt.stored(), "duplicates": receipt.duplicates() })))
}

/// `POST /api/v1/rejected/{id}/drop`
pub(super) async fn drop_rejected(State(admin): State<Arc<Admin>>, id: InPath<i64>) -> Answer<Value> {
    let id = read(id)?;
    match admin.store.drop_rejected(id).await? {
        true => Ok(Json(json!({ "dropped": 1 }))),
        false => Err(not_there()),
    }
}

/// A part of the path, or why it is none of its type: axum's own answer would be no [`Problem`].
type InPath<T> = Result<Path<T>, PathRejection>;

fn read<T>(in_path: InPath<T>) -> Result<T, Problem> {
    in_path.map(|Path(part)| part).map_err(|error| not_understood(error.body_text()))
}

fn not_understood(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

fn not_there() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no rejected callback has this number")
}
