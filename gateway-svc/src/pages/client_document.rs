//! The client metadata documents (draft-ietf-oauth-client-id-metadata-document): authorization servers that accept such documents know
//! Chandlery by the URL of one. Each server has a document of its own, `/oauth/client/TAG.json`, so that it sends browsers back to a path of
//! its own, `/oauth/callback/TAG`. credential-svc makes the tags; a document is the same for all that can be one.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use super::{Pages, problem::Problem};

/// The longest tag.
const MAX_TAG: usize = 64;

pub(super) async fn show(State(pages): State<Arc<Pages>>, Path(document): Path<String>) -> Response {
    let Some(tag) = document.strip_suffix(".json").filter(|tag| is_tag(tag)) else {
        return pages.refuse(&Problem::not_found());
    };
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
        "client_id": format!("{public}/oauth/client/{tag}.json"),
        "client_name": "Chandlery",
        "client_uri": public,
        "redirect_uris": [format!("{public}/oauth/callback/{tag}")],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    });
    ([(header::CACHE_CONTROL, "public, max-age=3600")], Json(document)).into_response()
}

fn is_tag(text: &str) -> bool {
    let permitted = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_TAG).contains(&text.len()) && text.bytes().all(permitted)
}
