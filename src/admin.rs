//! The operator's listener: health, metrics, and what is stored. Not for the internet: loopback, or a token.

mod api;
mod dead;
mod erase;
mod follow;
mod guard;
pub(crate) mod health;
mod metrics;
mod rejected;
mod sinks;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use schemars::JsonSchema;
use serde::Deserialize;
use tower_http::catch_panic::CatchPanicLayer;

use crate::dispatch::Standing;
use crate::http::Counts;
use crate::http::connection::Bounds;
use crate::http::problem::Problem;
use crate::secret::{self, Secret};
use crate::store::Store;
pub(crate) use follow::Followers;

/// The operator's listener.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where it listens.
    #[serde(deserialize_with = "crate::config::units::address")]
    #[schemars(schema_with = "crate::config::units::address_schema")]
    pub listen: SocketAddr,
    /// What a caller has to present as `Authorization: Bearer`; needed when it listens on anything but loopback.
    pub token: Option<Secret>,
    /// The same from a file.
    pub token_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8081)), token: None, token_file: None }
    }
}

impl Config {
    /// Checks what the types alone don't say.
    pub(crate) fn validate(&self) -> Result<(), String> {
        match (&self.token, &self.token_file) {
            (Some(_), Some(_)) => Err("admin.token and admin.token_file are both set; keep one of them".into()),
            (None, None) if !self.listen.ip().is_loopback() => Err(format!(
                "admin.listen is {}, which others can reach: set admin.token or admin.token_file",
                self.listen
            )),
            _ => Ok(()),
        }
    }

    /// The token, when one is configured.
    pub(crate) fn load_token(&self) -> Result<Option<Secret>, String> {
        secret::one_of("admin.token", self.token.as_ref(), self.token_file.as_ref())
    }

    /// An operator and a few scrapers call here, and followers, who leave them room.
    pub(crate) fn bounds() -> Bounds {
        Bounds {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            connections: 100 + follow::MAX_FOLLOWERS,
            refusals: None,
        }
    }
}

/// What the handlers share.
pub(crate) struct Admin {
    pub(crate) store: Store,
    pub(crate) counts: Arc<Counts>,
    pub(crate) sinks: Vec<Arc<Standing>>,
    pub(crate) token: Option<Secret>,
    /// Held by what looks before it acts.
    pub(crate) steering: tokio::sync::Mutex<()>,
    pub(crate) followers: Followers,
    /// Set when the service stops: it is no longer ready, and says so before it closes its doors.
    pub(crate) stopping: AtomicBool,
}

/// The routes of the operator's listener.
pub(crate) fn router(admin: Arc<Admin>) -> Router {
    let guarded = Router::new()
        .route("/api/openapi.json", get(api::description))
        .route("/metrics", get(metrics::metrics))
        .route("/api/v1/instances", get(api::instances))
        .route("/api/v1/messages/{message_id}", get(api::message))
        .route("/api/v1/changes", get(api::changes))
        .route("/api/v1/sinks", get(sinks::list))
        .route("/api/v1/sinks/{name}/pause", post(sinks::pause))
        .route("/api/v1/sinks/{name}/resume", post(sinks::resume))
        .route("/api/v1/sinks/{name}/replay", post(sinks::replay))
        .route("/api/v1/sinks/{name}/replay/cancel", post(sinks::cancel_replay))
        .route("/api/v1/sinks/{name}/dead", get(dead::list))
        .route("/api/v1/sinks/{name}/dead/retry", post(dead::retry))
        .route("/api/v1/sinks/{name}/dead/drop", post(dead::drop))
        .route("/api/v1/rejected", get(rejected::list))
        .route("/api/v1/rejected/{id}", get(rejected::show))
        .route("/api/v1/rejected/{id}/retry", post(rejected::retry))
        .route("/api/v1/rejected/{id}/drop", post(rejected::drop))
        .route("/api/v1/erase", post(erase::erase))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&admin), guard::check));
    Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .merge(guarded)
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        .layer(CatchPanicLayer::custom(|_| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the receiver had a fault of its own").into_response()
        }))
        .with_state(admin)
}
