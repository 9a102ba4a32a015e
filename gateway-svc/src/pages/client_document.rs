//! The client metadata document (draft-ietf-oauth-client-id-metadata-document): authorization servers that accept such documents know
//! Chandlery by its URL.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use super::Pages;

pub(super) async fn show(State(pages): State<Arc<Pages>>) -> Response {
    if !pages.secure {
        let why = "The public URL of this Chandlery is not https, so that no authorization server accepts this document. An operator can change it.";
        let error = json!({ "error": "not_available", "error_description": why });
        return (
            StatusCode::NOT_FOUND,
            [(header::CACHE_CONTROL, "no-store")],
            Json(error),
        )
            .into_response();
    }
    let public = &pages.public;
    let document = json!({
        "client_id": format!("{public}/oauth/client.json"),
        "client_name": "Chandlery",
        "client_uri": public,
        "redirect_uris": [format!("{public}/oauth/callback")],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    });
    ([(header::CACHE_CONTROL, "public, max-age=3600")], Json(document)).into_response()
}
