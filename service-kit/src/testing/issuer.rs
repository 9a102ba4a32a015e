//! An OIDC issuer for tests: discovery, keys, and a token endpoint.

use std::{
    collections::HashMap,
    io,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use axum::{
    Form, Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::install_tls_provider;
use crate::{
    clock::Clock,
    identity::{IssuerConfig, Verifier},
};

/// `aud` of the test issuer's tokens.
pub const AUDIENCE: &str = "chandlery-tests";

/// An OIDC issuer on 127.0.0.1 with one ES256 key at a time. It stops when dropped.
pub struct TestIssuer {
    issuer: String,
    key: SigningKey,
    published: Arc<Mutex<Value>>,
    answers: watch::Sender<bool>,
    fetches: Arc<AtomicUsize>,
    codes: Codes,
    _serving: DropGuard,
}

/// For each authorization code, the client that may use it and the ID token that it gets.
type Codes = Arc<Mutex<HashMap<String, (String, String)>>>;

struct SigningKey {
    id: String,
    key: EncodingKey,
    jwk: Value,
}

impl SigningKey {
    fn new() -> io::Result<Self> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(io::Error::other)?;
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).map_err(io::Error::other)?;
        // An uncompressed point: 4, x, y (SEC 1, section 2.3.3).
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let id = BASE64URL_NOPAD.encode(&x[..6]);
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id,
            "x": BASE64URL_NOPAD.encode(x), "y": BASE64URL_NOPAD.encode(y),
        });
        Ok(Self {
            id,
            key: EncodingKey::from_ec_der(pkcs8.as_ref()),
            jwk,
        })
    }
}

impl std::fmt::Debug for TestIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestIssuer")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl TestIssuer {
    /// Starts the issuer on a free port.
    pub async fn start() -> io::Result<Self> {
        install_tls_provider();
        let key = SigningKey::new()?;
        let published = Arc::new(Mutex::new(json!({ "keys": [key.jwk] })));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let issuer = format!("http://{}", listener.local_addr()?);
        let metadata = json!({
            "issuer": issuer,
            "jwks_uri": format!("{issuer}/keys"),
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "authorization_response_iss_parameter_supported": true,
        });
        let keys = Arc::clone(&published);
        let (answers, answering) = watch::channel(true);
        let fetches = Arc::new(AtomicUsize::new(0));
        let fetched = Arc::clone(&fetches);
        let codes = Codes::default();
        let publish = async move || {
            fetched.fetch_add(1, Ordering::Relaxed);
            let mut answering = answering;
            let _ended = answering.wait_for(|&answers| answers).await;
            Json(keys.lock().unwrap_or_else(PoisonError::into_inner).clone())
        };
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(async || Json(metadata)))
            .route("/keys", get(publish))
            .route("/token", post(redeem).with_state(Arc::clone(&codes)));
        let stop = CancellationToken::new();
        let serving = axum::serve(listener, routes).with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::spawn(async move { serving.await });
        Ok(Self {
            issuer,
            key,
            published,
            answers,
            fetches,
            codes,
            _serving: stop.drop_guard(),
        })
    }

    /// Replaces the signing key. The old one is withdrawn.
    pub fn rotate(&mut self) -> io::Result<()> {
        self.key = SigningKey::new()?;
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = json!({ "keys": [self.key.jwk] });
        Ok(())
    }

    /// Stops responding to requests for keys. They stay open.
    pub fn hang(&self) {
        self.answers.send_replace(false);
    }

    /// Responds again, including to requests that are open.
    pub fn answer(&self) {
        self.answers.send_replace(true);
    }

    /// How often the keys were requested.
    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }

    /// `iss` of its tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Its configuration. The claim `groups` lists groups, `admin` in the claim `roles` makes an admin, and a program's tokens have
    /// `kind` `machine`.
    pub fn config(&self) -> IssuerConfig {
        let machines = json!({ "claims": { "kind": "machine" } });
        let config = json!({
            "issuer": self.issuer, "audiences": [AUDIENCE], "roles_claim": "roles", "machines": machines,
        });
        serde_json::from_value(config).expect("all fields that must be there are")
    }

    /// A verifier of its tokens.
    pub fn verifier(&self, clock: Clock) -> Arc<Verifier> {
        Arc::new(Verifier::new(vec![self.config()], clock).expect("it has no proxy"))
    }

    /// A token of this subject, valid for an hour of the system's time, with the email `{subject}@example.com`.
    pub fn token(&self, subject: &str, groups: &[&str], admin: bool) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let roles: &[&str] = if admin { &["admin"] } else { &[] };
        self.sign(&json!({
            "iss": self.issuer, "aud": AUDIENCE, "sub": subject,
            "iat": now.as_secs(), "exp": (now + Duration::from_secs(3_600)).as_secs(),
            "email": format!("{subject}@example.com"), "name": subject, "groups": groups, "roles": roles,
        }))
    }

    /// A token of a program, valid for an hour of the system's time.
    pub fn machine_token(&self, subject: &str, groups: &[&str]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.sign(&json!({
            "iss": self.issuer, "aud": AUDIENCE, "sub": subject, "kind": "machine", "groups": groups,
            "exp": (now + Duration::from_secs(3_600)).as_secs(),
        }))
    }

    /// Signs any claims.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(Some("JWT"), claims)
    }

    /// Like [`TestIssuer::sign`], with this `typ` in the header.
    pub fn sign_as(&self, typ: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = typ.map(str::to_owned);
        header.kid = Some(self.key.id.clone());
        jsonwebtoken::encode(&header, claims, &self.key.key).expect("the key was just made, and claims are plain data")
    }

    /// An authorization code that this client can exchange once, at the token endpoint, for an ID token with these
    /// claims. There is no authorization endpoint: a test continues as if a person had signed in there.
    pub fn code_for(&self, client_id: &str, claims: &Value) -> String {
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        let code = format!("code-{}", codes.len());
        codes.insert(code.clone(), (client_id.to_owned(), self.sign(claims)));
        code
    }
}

/// The token endpoint (RFC 6749, section 4.1.3). It requires a PKCE verifier (RFC 7636), but does not check it.
async fn redeem(State(codes): State<Codes>, Form(form): Form<HashMap<String, String>>) -> (StatusCode, Json<Value>) {
    let code = form.get("code").map_or("", String::as_str);
    let issued = codes.lock().unwrap_or_else(PoisonError::into_inner).remove(code);
    match issued.filter(|(client_id, _)| form.get("client_id") == Some(client_id) && form.contains_key("code_verifier"))
    {
        Some((_, id_token)) => {
            let answer = json!({ "token_type": "Bearer", "access_token": "opaque", "id_token": id_token });
            (StatusCode::OK, Json(answer))
        }
        None => (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" }))),
    }
}
