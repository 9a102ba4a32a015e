//! The revocation endpoint (RFC 7009): revokes the provider's token where the provider can.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use secrecy::SecretString;
use serde_json::json;

use super::{
    Facade,
    answer::{OAuthError, uncached},
    authorization::Parameters,
    client::digest,
    token::Provider,
};
use crate::oidc;

pub(super) async fn revoke(State(facade): State<Arc<Facade>>, form: String) -> Response {
    match facade.revoke(&form).await {
        Ok(()) => uncached(StatusCode::OK, json!({})),
        Err(error) => error.into_response(),
    }
}

impl Facade {
    async fn revoke(&self, form: &str) -> Result<(), OAuthError> {
        let form = Parameters::parse(form).map_err(|why| OAuthError::bad("invalid_request", why))?;
        let (Some(token), Some(client)) = (form.get("token"), form.get("client_id")) else {
            return Err(OAuthError::bad("invalid_request", "token and client_id are required"));
        };
        // RFC 7009, section 2.2: a token that is none is as good as revoked. Another client's stays.
        let client = digest(client);
        let opened = self.opened(token).filter(|opened| opened.client == client);
        let Some(opened) = opened else { return Ok(()) };
        let provider = match self.provider(&opened.issuer).await {
            Ok(provider) => provider,
            // It is no longer configured: none of its tokens is accepted.
            Err(error) if error.status == StatusCode::BAD_REQUEST => return Ok(()),
            Err(error) => return Err(error),
        };
        let Provider {
            issuer,
            endpoints,
            http,
        } = &provider;
        let _place = self.place()?;
        let revoked = oidc::revoke(http, issuer, endpoints, opened.hint, &opened.token).await;
        revoked.map_err(|error| {
            tracing::error!(oidc.issuer = %issuer.issuer, error = %error, "an identity provider did not revoke a token");
            OAuthError::unavailable("the identity provider did not revoke it; retry")
        })
    }

    fn opened(&self, token: &str) -> Option<Revoked> {
        if let Some(refresh) = self.sealed.open_refresh_token(token) {
            return Some(Revoked {
                client: refresh.bound.client,
                issuer: refresh.issuer,
                token: refresh.token,
                hint: "refresh_token",
            });
        }
        let access = self.sealed.open_access_token(token)?;
        Some(Revoked {
            client: access.bound().client.clone(),
            issuer: access.issuer().to_owned(),
            token: access.token().clone(),
            hint: "access_token",
        })
    }
}

/// A provider's token that is to be revoked.
struct Revoked {
    client: String,
    issuer: String,
    token: SecretString,
    hint: &'static str,
}
