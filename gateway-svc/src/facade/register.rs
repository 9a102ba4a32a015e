//! Dynamic registration (RFC 7591). Nothing is stored: what a client registers is its id.

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;
use service_kit::Peer;

use super::{
    Facade,
    answer::{OAuthError, uncached},
    client::MAX_ID,
    sealed::Registered,
};

/// What is read of a registration; what else is in it is not needed.
#[derive(Deserialize)]
struct Registration {
    #[serde(default)]
    redirect_uris: Vec<String>,
    #[serde(default)]
    client_name: Option<String>,
}

pub(super) async fn register(
    State(facade): State<Arc<Facade>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match facade.register(peer.map(|Extension(peer)| peer), &headers, &body) {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

impl Facade {
    fn register(&self, peer: Option<Peer>, headers: &HeaderMap, body: &[u8]) -> Result<Response, OAuthError> {
        self.quotas.sign_in(peer, headers)?;
        let metadata = |text: &str| OAuthError::bad("invalid_client_metadata", text);
        let registration: Registration =
            serde_json::from_slice(body).map_err(|_| metadata("the body must be a JSON object of client metadata"))?;
        let name = registration.client_name.unwrap_or_default();
        let client = Registered::new(&name, registration.redirect_uris);
        let client = client.map_err(|wrong| OAuthError::bad("invalid_redirect_uri", wrong))?;
        let id = self.sealed.client(&client);
        if id.len() > MAX_ID {
            return Err(metadata("the redirect URIs are too long together"));
        }
        let answer = json!({
            "client_id": id,
            "client_id_issued_at": self.now(),
            "client_name": client.name,
            "redirect_uris": client.redirect_uris,
            // RFC 7591, section 3.2.1: what is registered may differ from what was asked for.
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        });
        Ok(uncached(StatusCode::CREATED, answer))
    }
}
