//! What the facade says of itself (RFC 8414).

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::json;

use super::{Facade, PATH};
use crate::domain::Links;

const WELL_KNOWN: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";
/// Where clients look that know nothing of a server's path.
pub(super) const AT_THE_ROOT: &str = WELL_KNOWN;

/// Where clients look for the metadata of an issuer with a path: RFC 8414, section 3.1, and OpenID Connect Discovery 1.0, section 4. The
/// part of the public URL's path is there for proxies that do not take it off here.
pub(super) fn paths(links: &Links) -> Vec<String> {
    let below = links.public_url().path().trim_end_matches('/').to_owned();
    let mut prefixes = vec![String::new(), below];
    prefixes.dedup();
    prefixes
        .iter()
        .flat_map(|prefix| [WELL_KNOWN, OPENID].map(|known| format!("{known}{prefix}{PATH}")))
        .chain([format!("{PATH}{OPENID}")])
        .collect()
}

pub(super) async fn show(State(facade): State<Arc<Facade>>) -> Response {
    Json(facade.metadata()).into_response()
}

/// Clients that find no protected resource metadata look here. A gateway that takes tokens only has none, and means it.
pub(super) async fn show_at_the_root(State(facade): State<Arc<Facade>>) -> Response {
    if facade.store.last().some_take_tokens_only() {
        return StatusCode::NOT_FOUND.into_response();
    }
    Json(facade.metadata()).into_response()
}

impl Facade {
    fn metadata(&self) -> serde_json::Value {
        let url = |path: &str| format!("{}{PATH}{path}", self.public);
        json!({
            "issuer": Self::identifier(&self.links),
            "authorization_endpoint": url("/authorize"),
            "token_endpoint": url("/token"),
            "registration_endpoint": url("/register"),
            "revocation_endpoint": url("/revoke"),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            // Clients use a metadata document only where `none` is here, too.
            "token_endpoint_auth_methods_supported": ["none"],
            "revocation_endpoint_auth_methods_supported": ["none"],
            "code_challenge_methods_supported": ["S256"],
            "client_id_metadata_document_supported": true,
            "authorization_response_iss_parameter_supported": true,
        })
    }
}
