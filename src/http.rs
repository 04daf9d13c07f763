//! The public listener: from a request to a commit to an answer. The only module that knows status codes.
//!
//! `receive` is the path of a callback: the caller's address, the secret, the headers, the body, [`callback::parse`], the
//! store, the answer. `connection` bounds connections and their time, `secret` and `caller` say who may call, `problem` is
//! what the others are told.

mod caller;
mod config;
pub(crate) mod connection;
mod counts;
pub(crate) mod problem;
mod refusals;
mod secret;

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::callback::{self, Invalid};
use crate::secret::Secret;
use crate::store::{self, Receipt, Store};
pub(crate) use config::SECRET_FILE;
pub use config::{Config, Limits, OtherTypes};
use connection::Peer;
pub(crate) use counts::Counts;
use counts::{Reason, Taken};
use problem::Problem;
use refusals::Refusals;
use secret::Secrets;

/// How long a callback waits for its commit. Proxies give up after a minute.
const COMMIT_WITHIN: Duration = Duration::from_secs(30);

/// What stands for the route in the log when a request is for none.
const ANOTHER_PATH: &str = "(another path)";

/// What the handlers share.
struct Receiver {
    secrets: Secrets,
    store: Store,
    config: Config,
    /// As it is logged.
    route: String,
    counts: Arc<Counts>,
    refusals: Refusals,
    closing: CancellationToken,
}

/// The routes of the public listener. `closing` ends what is still being read when the service can wait no longer.
pub(crate) fn router(
    config: Config,
    secrets: &[Secret],
    store: Store,
    counts: Arc<Counts>,
    closing: CancellationToken,
) -> Router {
    let path = config.path.clone();
    let (secrets, refusals, route) =
        (Secrets::new(secrets), Refusals::new(Arc::clone(&counts)), format!("{path}/{{secret}}"));
    let receiver = Arc::new(Receiver { secrets, store, config, route, counts, refusals, closing });
    let faults = Arc::clone(&receiver);
    Router::new()
        .route(&path, post(receive))
        .route(&format!("{path}/"), post(receive))
        .route(&format!("{path}/{{secret}}"), post(receive))
        .fallback(async |State(receiver): State<Arc<Receiver>>, request: Request| {
            let problem = Problem::because(Reason::Path, "there is nothing at this path");
            receiver.refuse(problem, ANOTHER_PATH, receiver.caller(&request))
        })
        .method_not_allowed_fallback(async |State(receiver): State<Arc<Receiver>>, request: Request| {
            let detail = "callbacks are posted: the only method here is POST";
            let problem = Problem::because(Reason::Method, detail);
            receiver.refuse(problem, &receiver.route, receiver.caller(&request))
        })
        .layer(CatchPanicLayer::custom(move |_| {
            // The panic hook has logged it.
            faults.counts.refused(Reason::Fault);
            Problem::because(Reason::Fault, "the receiver had a fault of its own").into_response()
        }))
        .with_state(receiver)
}

/// The answer to a callback that is on disk: it takes the store's receipt to make one.
struct Stored(Receipt);

impl Stored {
    fn how(&self) -> Taken {
        match (self.0.stored(), self.0.duplicates()) {
            (0, 0) => Taken::OtherType,
            (0, _) => Taken::Known,
            _ => Taken::New,
        }
    }
}

impl IntoResponse for Stored {
    fn into_response(self) -> Response {
        let body = format!(r#"{{"stored": {}, "duplicates": {}}}"#, self.0.stored(), self.0.duplicates());
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

async fn receive(State(receiver): State<Arc<Receiver>>, request: Request) -> Result<Stored, Problem> {
    let began = Instant::now();
    let caller = receiver.caller(&request);
    let stored =
        receiver.take(caller, request).await.map_err(|problem| receiver.refuse(problem, &receiver.route, caller))?;
    receiver.counts.taken(stored.how(), began.elapsed());
    Ok(stored)
}

impl Receiver {
    fn caller(&self, request: &Request) -> IpAddr {
        let peer = request.extensions().get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
        caller::address(peer, request.headers(), &self.config.trusted_proxies)
    }

    fn refuse(&self, problem: Problem, route: &str, caller: IpAddr) -> Problem {
        self.refusals.log(route, &problem, caller);
        problem
    }

    async fn take(&self, caller: IpAddr, request: Request) -> Result<Stored, Problem> {
        let allowed = &self.config.allow_from;
        if !allowed.is_empty() && !allowed.iter().any(|net| net.contains(&caller)) {
            return Err(Problem::because(Reason::Address, "callers from this address are not allowed"));
        }
        // The path as it came: a router's parameters are decoded already.
        let in_path = request.uri().path().strip_prefix(&self.config.path).and_then(|rest| rest.strip_prefix('/'));
        let Some(secret) = self.secrets.check(in_path, request.uri().query(), request.headers()) else {
            return Err(Problem::because(Reason::Secret, "the secret is missing or wrong"));
        };
        if self.secrets.is_first_use(secret) {
            tracing::info!(
                secret,
                of = self.secrets.count(),
                "this secret is used, for the first time since the start"
            );
        }
        check_content(request.headers())?;
        let slot = self.store.admit()?;
        let body = self.read(request.into_body()).await?;
        let received_at = Timestamp::now();
        let invalid = match callback::parse(&body) {
            Ok(callback) => return committed(self.store.accept(callback, received_at, slot)).await.map(Stored),
            Err(invalid) => invalid,
        };
        let (reason, detail, accepted) = match &invalid {
            Invalid::NotAnObject(detail) => return Err(Problem::because(Reason::NotAnObject, detail.clone())),
            Invalid::OtherType(_) => {
                (Reason::OtherType, "this is another type of callback", self.config.other_types == OtherTypes::Accept)
            }
            Invalid::Fields(_) => (Reason::Fields, "fields are missing or of the wrong kind", false),
        };
        let errors = invalid.errors().to_vec();
        let text = String::from_utf8_lossy(&body).into_owned();
        let receipt = committed(self.store.reject(text, errors.clone(), received_at, slot)).await?;
        if accepted {
            return Ok(Stored(receipt));
        }
        Err(Problem::because(reason, detail).with_errors(errors))
    }

    async fn read(&self, body: Body) -> Result<Bytes, Problem> {
        let limit = usize::try_from(self.config.limits.body).unwrap_or(usize::MAX);
        let too_large =
            || Problem::because(Reason::TooLarge, format!("the body is larger than {limit} bytes")).and_close();
        if body.size_hint().lower() > self.config.limits.body {
            return Err(too_large());
        }
        let mut collecting = pin!(Limited::new(body, limit).collect());
        // Nearly always the body has come with the headers: then no timer is needed.
        let first = std::future::poll_fn(|cx| Poll::Ready(collecting.as_mut().poll(cx))).await;
        let collected = match first {
            Poll::Ready(collected) => collected,
            Poll::Pending => tokio::select! {
                collected = &mut collecting => collected,
                () = tokio::time::sleep(self.config.limits.body_timeout) => {
                    return Err(Problem::because(Reason::Slow, "the body took too long").and_close());
                }
                () = self.closing.cancelled() => return Err(Problem::because(Reason::Stopping, "stopping").and_close()),
            },
        };
        collected.map(http_body_util::Collected::to_bytes).map_err(|error| {
            if error.is::<LengthLimitError>() {
                return too_large();
            }
            Problem::because(Reason::BrokenOff, "the body broke off, or its chunks are malformed").and_close()
        })
    }
}

/// Waits for the commit, but no longer than a proxy would: a disk may hang.
async fn committed(commit: impl Future<Output = Result<Receipt, store::Error>>) -> Result<Receipt, Problem> {
    match tokio::time::timeout(COMMIT_WITHIN, commit).await {
        Ok(receipt) => Ok(receipt?),
        // It may be stored all the same; then the next attempt will be told that it is known.
        Err(_) => Err(Problem::because(Reason::StoreSlow, "the store takes too long")),
    }
}

/// Whether the headers promise JSON that can be read as it is.
fn check_content(headers: &HeaderMap) -> Result<(), Problem> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    if !is_json {
        return Err(Problem::because(Reason::ContentType, "expected Content-Type: application/json"));
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(Problem::because(Reason::ContentType, "expected a body without Content-Encoding"))
        }
        _ => Ok(()),
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        let (reason, detail) = match error {
            store::Error::Busy => (Reason::InFlight, "too much is in flight"),
            store::Error::Full => (Reason::StoreFull, "the store is full"),
            store::Error::Failing => (Reason::StoreFailing, "the store is failing"),
            store::Error::Stopped => (Reason::Stopping, "stopping"),
        };
        Self::because(reason, detail)
    }
}
