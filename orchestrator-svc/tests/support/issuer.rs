//! An OIDC issuer for tests: its metadata and keys over HTTP, its tokens by a method.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::{Json, Router, routing::get};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use service_kit::{
    Clock,
    identity::{IssuerConfig, Verifier},
};

pub struct Issuer {
    url: String,
    key: EncodingKey,
}

impl Issuer {
    pub async fn start() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let x = data_encoding::BASE64URL_NOPAD.encode(pair.public_key().as_ref());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let jwks =
            json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "1", "x": x}]});
        let metadata = json!({"issuer": url, "jwks_uri": format!("{url}/jwks")});
        let router = Router::new()
            .route(
                "/.well-known/openid-configuration",
                get(move || async move { Json(metadata) }),
            )
            .route("/jwks", get(move || async move { Json(jwks) }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            url,
            key: EncodingKey::from_ed_der(document.as_ref()),
        }
    }

    pub fn verifier(&self) -> Arc<Verifier> {
        let config = json!({"issuer": self.url, "audiences": ["chandlery"]});
        let config: IssuerConfig = serde_json::from_value(config).unwrap();
        Arc::new(Verifier::new(vec![config], Clock::System))
    }

    pub fn token(&self, subject: &str, roles: &[&str]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"iss": self.url, "sub": subject, "aud": "chandlery", "exp": now + 600, "roles": roles});
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some("1".to_owned());
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }
}
