//! Answers to programs, as OAuth defines them.

use std::time::{Duration, SystemTime};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use service_kit::quota::Exceeded;

/// The tokens that a client gets (RFC 6749, section 5.1).
pub(super) struct Issued {
    pub(super) access: SecretString,
    pub(super) refresh: Option<SecretString>,
    pub(super) scope: Option<String>,
    pub(super) expires_at: SystemTime,
}

impl Issued {
    pub(super) fn refresh_token(&self) -> Option<&str> {
        self.refresh.as_ref().map(|token| token.expose_secret())
    }

    /// How long the access token is valid.
    pub(super) fn lasts(&self, now: SystemTime) -> Duration {
        self.expires_at.duration_since(now).unwrap_or_default()
    }

    /// Of the tokens, in bytes.
    pub(super) fn size(&self) -> usize {
        self.access.expose_secret().len() + self.refresh_token().map_or(0, str::len)
    }

    pub(super) fn response(&self, now: SystemTime) -> Response {
        let mut body = json!({
            "token_type": "Bearer", "expires_in": self.lasts(now).as_secs(), "access_token": self.access.expose_secret(),
        });
        if let Some(scope) = &self.scope {
            body["scope"] = scope.as_str().into();
        }
        if let Some(refresh) = self.refresh_token() {
            body["refresh_token"] = refresh.into();
        }
        uncached(StatusCode::OK, body)
    }
}

/// Why a request of a client is refused: `error` and `error_description` (RFC 6749, section 5.2; RFC 7591, section 3.2.2; RFC 8707,
/// section 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OAuthError {
    pub(super) status: StatusCode,
    pub(super) error: &'static str,
    pub(super) description: String,
}

impl OAuthError {
    /// A request that its sender must change.
    pub(super) fn bad(error: &'static str, description: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error,
            description: description.into(),
        }
    }

    /// A code or token that is no longer accepted, or never was: sign in again.
    pub(super) fn grant(description: &str) -> Self {
        Self::bad("invalid_grant", description)
    }

    /// The client can do nothing but retry.
    pub(super) fn unavailable(description: &str) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            error: "temporarily_unavailable",
            description: description.to_owned(),
        }
    }

    /// The operator must change something; the log says what.
    pub(super) fn server(description: &str) -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            error: "server_error",
            description: description.to_owned(),
        }
    }
}

impl From<Exceeded> for OAuthError {
    fn from(exceeded: Exceeded) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            ..Self::unavailable(&exceeded.to_string())
        }
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.error, "error_description": self.description });
        let mut response = uncached(self.status, body);
        if matches!(
            self.status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        ) {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// A JSON document that nobody keeps (RFC 6749, section 5.1).
pub(super) fn uncached(status: StatusCode, body: Value) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}
