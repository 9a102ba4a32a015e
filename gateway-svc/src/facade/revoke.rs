//! The revocation endpoint (RFC 7009): revokes the provider's token where the provider can.

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, StatusCode};
use secrecy::SecretString;
use serde_json::json;
use service_kit::{Peer, identity::Use};

use super::{
    Facade,
    answer::{OAuthError, uncached},
    authorization::Parameters,
    client::digest,
};

pub(super) async fn revoke(
    State(facade): State<Arc<Facade>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    form: String,
) -> Response {
    let peer = peer.map(|Extension(peer)| peer);
    match facade.revoke(peer, &headers, &form).await {
        Ok(()) => uncached(StatusCode::OK, json!({})),
        Err(error) => error.into_response(),
    }
}

impl Facade {
    async fn revoke(&self, peer: Option<Peer>, headers: &HeaderMap, form: &str) -> Result<(), OAuthError> {
        let form = Parameters::parse(form).map_err(|why| OAuthError::bad("invalid_request", why));
        let opened = form.as_ref().ok().and_then(|form| self.opened(form.get("token")?));
        self.charge(opened.as_ref().map(|opened| &*opened.sign_in), peer, headers)?;
        let form = form?;
        let (Some(token), Some(client)) = (form.get("token"), form.get("client_id")) else {
            return Err(OAuthError::bad("invalid_request", "token and client_id are required"));
        };
        // RFC 7009, section 2.2: a token that is none is as good as revoked. Another client's stays.
        let client = digest(client);
        let opened = opened.filter(|opened| opened.client == client);
        let Some(opened) = opened else { return Ok(()) };
        self.refreshes.forget(token);
        if opened.is_id_token {
            return Err(not_revocable(
                "the identity provider's ID token is in it, which nobody can revoke: it ends by itself",
            ));
        }
        let (provider, _place) = match self.provider(&opened.issuer).await {
            Ok(provider) => provider,
            // It is no longer configured: none of its tokens is accepted.
            Err(error) if error.status == StatusCode::BAD_REQUEST => return Ok(()),
            Err(error) => return Err(error),
        };
        // A client that is told so may say that it has not signed out.
        if provider.endpoints.revocation_endpoint.is_none() {
            return Err(not_revocable("the identity provider revokes no tokens"));
        }
        let revoked = provider.revoke(opened.hint, &opened.token).await;
        revoked.map_err(|error| {
            tracing::error!(oidc.issuer = %opened.issuer, error = %error, "an identity provider did not revoke a token");
            OAuthError::unavailable("the identity provider did not revoke it; retry")
        })
    }

    fn opened(&self, token: &str) -> Option<Revoked> {
        if let Some(refresh) = self.sealed.open_refresh_token(token) {
            return Some(Revoked {
                client: refresh.bound.client,
                sign_in: refresh.bound.sign_in,
                issuer: refresh.issuer,
                token: refresh.token,
                hint: "refresh_token",
                is_id_token: false,
            });
        }
        let access = self.sealed.open_access_token(token)?;
        Some(Revoked {
            client: access.bound().client.clone(),
            sign_in: access.bound().sign_in.clone(),
            issuer: access.issuer().to_owned(),
            token: access.token().clone(),
            hint: "access_token",
            is_id_token: access.shown_for() == Use::SignIn,
        })
    }
}

/// RFC 7009, section 2.2.1.
fn not_revocable(why: &str) -> OAuthError {
    OAuthError::bad("unsupported_token_type", why)
}

/// A provider's token that is to be revoked.
struct Revoked {
    client: String,
    sign_in: String,
    issuer: String,
    token: SecretString,
    hint: &'static str,
    is_id_token: bool,
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Duration};

    use axum::{
        Router,
        body::Body,
        http::{Request, header},
        routing::{get, post},
    };
    use http_body_util::BodyExt as _;
    use serde_json::Value;
    use service_kit::{
        Clock, Quotas,
        egress::EgressPolicy,
        identity::{IssuerConfig, Verifier},
    };
    use tower::ServiceExt as _;
    use url::form_urlencoded;

    use super::{super::FacadeConfig, *};
    use crate::{
        domain::Links,
        facade::sealed::{AccessToken, Bound, RefreshToken, Sealed},
        snapshot::Store,
    };

    const KEY: [u8; 32] = [9; 32];
    const CLIENT: &str = "http://127.0.0.1/client.json";

    /// An identity provider that answers as it is told.
    struct Provider {
        issuer: String,
        asked: Arc<Mutex<Vec<String>>>,
        facade: Arc<Facade>,
    }

    impl Provider {
        async fn start(has_endpoint: bool, status: u16) -> Self {
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let issuer = format!("http://{}", listener.local_addr().unwrap());
            let mut metadata = json!({
                "issuer": issuer, "jwks_uri": format!("{issuer}/keys"),
                "authorization_endpoint": format!("{issuer}/authorize"), "token_endpoint": format!("{issuer}/token"),
            });
            if has_endpoint {
                metadata["revocation_endpoint"] = format!("{issuer}/revoke").into();
            }
            let asked = Arc::new(Mutex::new(Vec::new()));
            let noted = Arc::clone(&asked);
            let revoke = async move |form: String| {
                noted.lock().unwrap().push(form);
                StatusCode::from_u16(status).unwrap()
            };
            let router = Router::new()
                .route(
                    "/.well-known/openid-configuration",
                    get(async move || axum::Json(metadata)),
                )
                .route("/keys", get(async || axum::Json(json!({ "keys": [] }))))
                .route("/revoke", post(revoke));
            tokio::spawn(async move { axum::serve(listener, router).await });
            let config = json!({ "issuer": issuer, "client_id": "pages", "audiences": ["us"], "facade": {} });
            let config: IssuerConfig = serde_json::from_value(config).unwrap();
            let facade = Facade::new(
                FacadeConfig {
                    links: Links::new("https://tools.example.com".parse().unwrap()),
                    documents: EgressPolicy::default(),
                    key: KEY.into(),
                },
                Arc::new(Verifier::new(vec![config], Clock::System).unwrap()),
                Store::new(Duration::from_secs(60), Clock::System),
                Quotas::unlimited(),
                Clock::System,
            );
            Self {
                issuer,
                asked,
                facade: facade.unwrap(),
            }
        }

        fn bound() -> Bound {
            Bound {
                client: digest(CLIENT),
                endpoint: "gateways/team".to_owned(),
                sign_in: "digest".to_owned(),
            }
        }

        fn access(&self, is_id_token: bool) -> String {
            let token = AccessToken::new(Self::bound(), self.issuer.clone(), "access-canary".into(), is_id_token);
            Sealed::new(KEY.into()).access_token(&token)
        }

        fn refresh(&self, issuer: &str) -> String {
            Sealed::new(KEY.into()).refresh_token(&RefreshToken {
                bound: Self::bound(),
                issuer: issuer.to_owned(),
                token: "refresh-canary".into(),
            })
        }

        async fn revoke(&self, fields: &[(&str, &str)]) -> (StatusCode, Value) {
            let body = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(fields)
                .finish();
            let request = Request::post("/oauth/revoke")
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Body::from(body));
            let router = Arc::clone(&self.facade).routes();
            let response = router.oneshot(request.unwrap()).await.unwrap();
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
            let status = response.status();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8(body.to_vec()).unwrap();
            assert!(!text.contains("canary"), "{text}");
            (status, serde_json::from_str(&text).unwrap())
        }

        fn asked(&self) -> Vec<String> {
            self.asked.lock().unwrap().clone()
        }
    }

    #[tokio::test]
    async fn the_providers_tokens_are_revoked_for_their_client() {
        let provider = Provider::start(true, 200).await;
        let (access, refresh) = (provider.access(false), provider.refresh(&provider.issuer));
        for token in [&refresh, &access] {
            // Whatever the hint says: a token says itself what it is.
            let fields = [
                ("token", &**token),
                ("client_id", CLIENT),
                ("token_type_hint", "nonsense"),
            ];
            assert_eq!(provider.revoke(&fields).await, (StatusCode::OK, json!({})));
        }
        assert_eq!(
            provider.asked(),
            [
                "token=refresh-canary&token_type_hint=refresh_token&client_id=pages",
                "token=access-canary&token_type_hint=access_token&client_id=pages",
            ]
        );
    }

    /// RFC 7009, section 2.2: as good as revoked. Another client's stays.
    #[tokio::test]
    async fn what_is_not_a_token_of_the_client_is_nothing_to_revoke() {
        let provider = Provider::start(true, 200).await;
        let refresh = provider.refresh(&provider.issuer);
        let gone = provider.refresh("https://no-longer.example.com");
        let renamed = refresh.replacen("chr_", "cha_", 1);
        for (token, client) in [
            (&*refresh, "another"),
            (&gone, CLIENT),
            (&renamed, CLIENT),
            ("chc_code", CLIENT),
            ("nonsense", CLIENT),
        ] {
            let answer = provider.revoke(&[("token", token), ("client_id", client)]).await;
            assert_eq!(answer, (StatusCode::OK, json!({})), "{client}");
        }
        for fields in [
            &[("token", &*refresh)][..],
            &[("client_id", CLIENT)],
            &[("token", &refresh), ("token", &refresh), ("client_id", CLIENT)],
            &[],
        ] {
            let (status, answer) = provider.revoke(fields).await;
            assert_eq!(
                (status, &answer["error"]),
                (StatusCode::BAD_REQUEST, &json!("invalid_request"))
            );
        }
        assert_eq!(provider.asked(), [""; 0]);
    }

    #[tokio::test]
    async fn what_was_not_revoked_is_not_said_to_be() {
        for status in [500, 503, 401, 307] {
            let provider = Provider::start(true, status).await;
            let refresh = provider.refresh(&provider.issuer);
            let (status, answer) = provider.revoke(&[("token", &refresh), ("client_id", CLIENT)]).await;
            assert_eq!(
                (status, &answer["error"]),
                (StatusCode::SERVICE_UNAVAILABLE, &json!("temporarily_unavailable"))
            );
            assert_eq!(provider.asked().len(), 1);
        }
        let without = Provider::start(false, 200).await;
        let with = Provider::start(true, 200).await;
        for (provider, token) in [
            (&without, without.refresh(&without.issuer)),
            (&without, without.access(false)),
            (&with, with.access(true)),
        ] {
            let (status, answer) = provider.revoke(&[("token", &token), ("client_id", CLIENT)]).await;
            assert_eq!(
                (status, &answer["error"]),
                (StatusCode::BAD_REQUEST, &json!("unsupported_token_type"))
            );
            assert_eq!(provider.asked(), [""; 0]);
        }
    }
}
