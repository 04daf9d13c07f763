//! Who may use the operator's API.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Admin;
use crate::http::problem::Problem;

/// Lets a request pass that has the token. Without a token configured, one that a web page did not make: a browser on this
/// host could otherwise be led to read or change what is here.
pub(super) async fn check(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    match refusal(&admin, request.headers()) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

/// Why a request with these headers may not use the API, if it may not.
pub(super) fn refusal(admin: &Admin, headers: &HeaderMap) -> Option<Problem> {
    match &admin.token {
        Some(token) if !has_token(headers, token.expose()) => {
            Some(Problem::new(StatusCode::UNAUTHORIZED, "expected Authorization: Bearer with the token of [admin]"))
        }
        None if headers.contains_key(header::ORIGIN) || !names_loopback(headers) => {
            Some(Problem::new(StatusCode::FORBIDDEN, "not for web pages: set a token in [admin] and present it"))
        }
        _ => None,
    }
}

fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let presented = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    // Digests have one length, so that comparing them says nothing of the token's.
    presented.is_some_and(|presented| Sha256::digest(presented).ct_eq(&Sha256::digest(token)).into())
}

/// A name that was made to resolve to this host is not one of its own.
fn names_loopback(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
