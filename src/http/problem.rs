//! What callers are told when a request is not taken: `application/problem+json` (RFC 9457).

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::counts::Reason;
use crate::callback::FieldError;

/// How long a caller is asked to wait when the receiver itself is in trouble.
const RETRY_AFTER_SECONDS: u32 = 5;

/// A refusal. It never carries a secret, a phone number or an internal error's text.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// What it is counted as, where callbacks are received.
    pub(super) reason: Option<Reason>,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    closes: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, reason: None, detail: detail.into(), errors: Vec::new(), closes: false }
    }

    /// Why a callback is not taken.
    pub(super) fn because(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: Some(reason), ..Self::new(reason.status(), detail) }
    }

    /// The receiver's own trouble: the caller is asked to come again.
    pub(crate) fn unavailable(detail: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    pub(crate) fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// The connection can't be used again: part of a request may still be on its way.
    pub(crate) fn and_close(mut self) -> Self {
        self.closes = true;
        self
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    fn body(&self) -> Vec<u8> {
        let body = Body {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            errors: &self.errors,
        };
        serde_json::to_vec(&body).expect("strings and numbers serialize")
    }

    /// The whole answer as bytes, for a connection on which there is no request to answer.
    pub(crate) fn to_http1(&self) -> Vec<u8> {
        let body = self.body();
        let retry = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => format!("retry-after: {RETRY_AFTER_SECONDS}\r\n"),
            _ => String::new(),
        };
        let head = format!(
            "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\n{retry}content-length: {}\r\nconnection: close\r\n\r\n",
            self.status,
            body.len()
        );
        [head.into_bytes(), body].concat()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
