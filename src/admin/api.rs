//! What is stored, for the commands and for programs.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Admin, follow};
use crate::http::problem::Problem;
use crate::status::{Rank, Status, StatusChange};
use crate::store::{self, Entry, Exception, Instance, Store};

/// The most changes in one answer.
const MAX_LIMIT: usize = 1000;

/// How many are in an answer that was not asked for a number.
const DEFAULT_LIMIT: usize = 100;

/// The most changes of one message that are shown: a story may have a thousand viewers.
const MAX_HISTORY: usize = 10_000;

pub(super) type Answer<T> = Result<Json<T>, Problem>;

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
    sinks: BTreeMap<String, String>,
    /// More of those sinks for which it is deferred or dead.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    exceptions: BTreeMap<String, Exception>,
}

/// All that is kept of a message.
#[derive(Serialize)]
pub(super) struct Message {
    message_id: String,
    recipients: Vec<Recipient>,
    /// Whether older changes of it are not here: there are too many, or retention has deleted them.
    truncated: bool,
}

/// `GET /api/openapi.json`: what all of this is, for programs. Written by hand; the tests compare it with the routes and their answers.
pub(super) async fn description() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json"))
}

/// `GET /api/v1/messages/{message_id}`
pub(super) async fn message(State(admin): State<Arc<Admin>>, message_id: InPath<String>) -> Answer<Message> {
    let message_id = read(message_id)?;
    let (entries, truncated) = admin.store.message(message_id.clone(), MAX_HISTORY).await?;
    if entries.is_empty() {
        return Err(Problem::new(StatusCode::NOT_FOUND, "no change of this message is stored"));
    }
    // Before the exceptions are read: what is deferred or dies meanwhile is found there.
    let places = admin.store.places();
    let names = admin.sinks.iter().map(|sink| sink.name().to_string()).collect();
    let ids = entries.iter().map(|entry| (entry.seq, entry.change.facts.event_id())).collect();
    let exceptions = admin.store.exceptions(names, ids).await?;
    let mut recipients: Vec<Recipient> = Vec::new();
    for (entry, exceptions) in entries.into_iter().zip(exceptions) {
        let facts = &entry.change.facts;
        let is_same =
            |other: &&mut Recipient| other.instance_id == facts.instance_id && other.recipient == facts.recipient();
        let reached = facts.status.rank().max(entry.change.previous).map(Rank::name);
        let sinks = admin.sinks.iter().map(|sink| {
            let name = sink.name().as_str();
            let state = match (exceptions.get(name), places.get(name)) {
                (Some(exception), _) => exception.state(),
                _ if !sink.filter().matches(&entry.change) => "filtered".to_owned(),
                (None, Some(cursor)) if *cursor >= entry.seq => "delivered".to_owned(),
                _ => "waiting".to_owned(),
            };
            (name.to_owned(), state)
        });
        let sinks = sinks.collect();
        let (instance_id, recipient) = (facts.instance_id.clone(), facts.recipient().to_owned());
        let known = recipients.iter_mut().find(is_same);
        let history = History { stored: entry.into(), sinks, exceptions };
        match known {
            Some(known) => {
                known.status = reached.or(known.status);
                known.changes.push(history);
            }
            None => recipients.push(Recipient { instance_id, recipient, status: reached, changes: vec![history] }),
        }
    }
    Ok(Json(Message { message_id, recipients, truncated }))
}

/// What `GET /api/v1/changes` may be asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangesQuery {
    /// Changes stored after this one,
    after: Option<i64>,
    /// or received at this time or later.
    since: Option<Timestamp>,
    pub(super) limit: Option<usize>,
    status: Option<String>,
    instance: Option<String>,
    phone: Option<String>,
}

impl ChangesQuery {
    /// Which changes are wanted.
    pub(super) fn filter(&self) -> store::Query {
        store::Query {
            status: self.status.clone().map(Status::new),
            instance_id: self.instance.clone(),
            phone: self.phone.clone(),
        }
    }

    /// The place after which they are wanted, if that was said.
    pub(super) async fn place(&self, store: &Store) -> Result<Option<i64>, Problem> {
        match (self.after, self.since) {
            (Some(_), Some(_)) => Err(not_understood("say after or since, not both".to_owned())),
            (None, Some(since)) => Ok(Some(store.before(since).await?)),
            (after, None) => Ok(after),
        }
    }
}

/// A part of the log.
#[derive(Serialize)]
struct Changes {
    changes: Vec<Stored>,
    next: i64,
}

/// `GET /api/v1/changes`: in the order stored. `next` is the `after` to go on with; it has moved when nothing matched, too. Whoever
/// accepts `text/event-stream` follows them.
pub(super) async fn changes(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    query: InQuery<ChangesQuery>,
) -> Result<Response, Problem> {
    let query = asked(query)?;
    if follow::is_asked_for(&headers) {
        return follow::follow(&admin, &headers, &query).await;
    }
    let after = query.place(&admin.store).await?.unwrap_or_default();
    let page = admin.store.changes(query.filter(), after, limit(query.limit)).await?;
    let changes = page.entries.into_iter().map(Stored::from).collect();
    Ok(Json(Changes { changes, next: page.next }).into_response())
}

/// `GET /api/v1/instances`: the connected accounts that callbacks came from in the last 30 days.
pub(super) async fn instances(State(admin): State<Arc<Admin>>) -> Json<Vec<Instance>> {
    Json(admin.store.instances())
}

/// How many are answered when this many were asked for.
pub(super) fn limit(asked: Option<usize>) -> usize {
    asked.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT)
}

/// A part of the path, or why it is none of its type: axum's own answer would be no [`Problem`].
pub(super) type InPath<T> = Result<Path<T>, PathRejection>;

/// What is asked for in a query, or why it is none of its type.
pub(super) type InQuery<T> = Result<Query<T>, QueryRejection>;

pub(super) fn read<T>(in_path: InPath<T>) -> Result<T, Problem> {
    in_path.map(|Path(part)| part).map_err(|error| not_understood(error.body_text()))
}

pub(super) fn asked<T>(in_query: InQuery<T>) -> Result<T, Problem> {
    in_query.map(|Query(asked)| asked).map_err(|error| not_understood(error.body_text()))
}

/// What a POST asks for: JSON in its body, or the query.
pub(super) fn ordered<T: DeserializeOwned>(uri: &Uri, body: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    let body = body.map_err(|error| not_understood(error.body_text()))?;
    match (body.is_empty(), uri.query().unwrap_or_default().is_empty()) {
        (true, _) => asked(Query::try_from_uri(uri)),
        (false, true) => serde_json::from_slice(&body).map_err(|error| not_understood(error.to_string())),
        (false, false) => Err(not_understood("say it in the query or in the body, not in both".to_owned())),
    }
}

pub(super) fn not_understood(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}
