//! The token endpoint, which exchanges a code and its verifier for tokens (RFC 6749, section 4.1.3).

use std::sync::Arc;

use axum::{
    Form, Json,
    extract::{State, rejection::FormRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use super::{AUDIENCE, CLIENT_ID, SIGN_IN_TTL, Shared, record::Event};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Request {
    grant_type: String,
    client_id: String,
    code: String,
    redirect_uri: String,
    code_verifier: String,
}

pub(super) async fn exchange(
    State(shared): State<Arc<Shared>>,
    form: Result<Form<Request>, FormRejection>,
) -> Response {
    let Ok(Form(request)) = form else {
        return refused("invalid_request", "the body must be a form");
    };
    if request.grant_type != "authorization_code" {
        return refused("unsupported_grant_type", "grant_type must be authorization_code");
    }
    if request.client_id != CLIENT_ID {
        return refused("invalid_client", "client_id is not known");
    }
    let now = shared.clock.now();
    let Some(grant) = shared
        .grants
        .redeem(&request.code, &request.redirect_uri, &request.code_verifier, now)
    else {
        return refused(
            "invalid_grant",
            "the code is unknown, used or expired, or was made for another redirect_uri or verifier",
        );
    };
    let sign = |audience, nonce| shared.issuer.sign(&grant.person, audience, SIGN_IN_TTL, now, nonce);
    let (access, id) = (sign(AUDIENCE, None), sign(CLIENT_ID, grant.nonce.as_deref()));
    let event = Event::TokensGranted {
        token: &access.id,
        until: access.until,
    };
    if let Err(error) = shared.issuer.record_event(event, &grant.person, now) {
        tracing::error!("{error}");
        return refused("server_error", "the sign-in cannot be recorded");
    }
    let tokens = json!({
        "token_type": "Bearer",
        "expires_in": SIGN_IN_TTL.as_secs(),
        "access_token": access.token,
        "id_token": id.token,
    });
    ([(header::CACHE_CONTROL, "no-store")], Json(tokens)).into_response()
}

/// An error response (RFC 6749, section 5.2).
fn refused(error: &str, description: &str) -> Response {
    let body = json!({ "error": error, "error_description": description });
    (
        StatusCode::BAD_REQUEST,
        [(header::CACHE_CONTROL, "no-store")],
        Json(body),
    )
        .into_response()
}
