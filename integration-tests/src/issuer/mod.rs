//! The test issuer: an identity provider of this crate, for grants that no real one of the tests has. A test says which.

pub mod assertions;
pub mod entra;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use axum::{
    Form, Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{tls::install_crypto, upstream::Served};

/// For whom its access tokens are.
pub const AUDIENCE: &str = "chandlery";
/// The client that exchanges tokens, and its secret.
pub const CLIENT: (&str, &str) = ("gateway-client", "gateway-client-secret:+/%");

/// What was sent to its token endpoint.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The form; a name that is there twice fails the request.
    pub form: BTreeMap<String, String>,
    /// Client and secret of a Basic header.
    pub basic: Option<(String, String)>,
}

/// An answer of the token endpoint: what it issues, or an error (RFC 6749, section 5.2) with its description.
pub type Answer = Result<Value, (&'static str, String)>;
/// Decides about a request.
pub type Grant = Box<dyn Fn(&Keys, &Asked) -> Answer + Send + Sync>;

/// The key and the name of an issuer.
pub struct Keys {
    issuer: String,
    signs: EncodingKey,
    verifies: DecodingKey,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// A port for an issuer whose name others must know before it starts.
#[derive(Debug)]
pub struct Bound(TcpListener);

impl Bound {
    /// On a free port.
    ///
    /// # Panics
    /// If there is none.
    pub async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
    }

    /// The issuer that [`Issuer::start`] will be.
    ///
    /// # Panics
    /// Never.
    pub fn issuer(&self) -> String {
        format!("http://{}", self.0.local_addr().expect("it is bound"))
    }
}

/// A running issuer.
#[derive(Debug)]
pub struct Issuer {
    shared: Arc<Shared>,
    _served: Served,
}

struct Shared {
    keys: Keys,
    jwks: Value,
    grant: Grant,
    asked: Mutex<Vec<Asked>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.keys.fmt(f)
    }
}

impl Issuer {
    /// Starts it with a new key.
    ///
    /// # Panics
    /// If there is no randomness.
    pub fn start(bound: Bound, grant: Grant) -> Self {
        install_crypto();
        let pair = rcgen::KeyPair::generate().expect("randomness");
        let (x, y) = pair.public_key_raw()[1..].split_at(32);
        let (x, y) = (BASE64URL_NOPAD.encode(x), BASE64URL_NOPAD.encode(y));
        let jwk = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k1", "x": x, "y": y});
        let keys = Keys {
            issuer: bound.issuer(),
            signs: EncodingKey::from_ec_der(&pair.serialize_der()),
            verifies: DecodingKey::from_ec_components(&x, &y).expect("a point"),
        };
        let shared = Arc::new(Shared {
            keys,
            jwks: json!({ "keys": [jwk] }),
            grant,
            asked: Mutex::default(),
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/jwks", get(jwks))
            .route("/token", post(token))
            .with_state(Arc::clone(&shared));
        Self {
            shared,
            _served: Served::on(bound.0, router),
        }
    }

    /// Its identifier.
    pub fn issuer(&self) -> &str {
        &self.shared.keys.issuer
    }

    /// An access token of a person for Chandlery.
    pub fn token(&self, subject: &str) -> String {
        self.shared.keys.access_token(subject, AUDIENCE)
    }

    /// What its token endpoint was asked so far.
    ///
    /// # Panics
    /// Never.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("no holder of this lock panics").clone()
    }

    /// A file for `--issuers` that names it alone.
    pub fn issuers(&self) -> String {
        let issuer = json!({"issuer": self.issuer(), "display_name": "Corp", "audiences": [AUDIENCE]});
        // JSON is YAML.
        json!({ "issuers": [issuer] }).to_string()
    }
}

impl Keys {
    /// Its identifier.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// An access token (RFC 9068).
    pub fn access_token(&self, subject: &str, audience: &str) -> String {
        self.sign(
            "at+jwt",
            &json!({"sub": subject, "aud": audience, "email": format!("{subject}@corp.example")}),
        )
    }

    /// A JWT of this type with these claims, valid for four minutes.
    ///
    /// # Panics
    /// Never.
    pub fn sign(&self, kind: &str, claims: &Value) -> String {
        let now = jsonwebtoken::get_current_timestamp();
        let mut all =
            json!({"iss": self.issuer, "iat": now, "exp": now + 240, "jti": uuid::Uuid::new_v4().to_string()});
        for (name, value) in claims.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        let header = Header {
            typ: Some(kind.to_owned()),
            kid: Some("k1".to_owned()),
            ..Header::new(Algorithm::ES256)
        };
        jsonwebtoken::encode(&header, &all, &self.signs).expect("a key for ES256")
    }

    /// The claims of a token of its own for this audience, if it is one and valid.
    pub fn verified(&self, token: &str, audience: &str) -> Option<Value> {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[&self.issuer]);
        let verified = jsonwebtoken::decode::<Value>(token, &self.verifies, &validation);
        verified.ok().map(|token| token.claims)
    }
}

async fn metadata(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let issuer = &shared.keys.issuer;
    Json(json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/jwks"),
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
    }))
}

async fn jwks(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.jwks.clone())
}

async fn token(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Form(pairs): Form<Vec<(String, String)>>,
) -> Response {
    let sent = pairs.len();
    let asked = Asked {
        form: pairs.into_iter().collect(),
        basic: basic(&headers),
    };
    let is_plain = asked.form.len() == sent;
    let answer = match is_plain {
        true => (shared.grant)(&shared.keys, &asked),
        false => Err(("invalid_request", "a parameter is there twice".to_owned())),
    };
    shared.asked.lock().expect("no holder of this lock panics").push(asked);
    match answer {
        Ok(issued) => Json(issued).into_response(),
        Err((error, description)) => {
            let body = json!({"error": error, "error_description": description});
            (StatusCode::BAD_REQUEST, Json(body)).into_response()
        }
    }
}

/// RFC 6749, section 2.3.1.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let joined = String::from_utf8(BASE64.decode(value.as_bytes()).ok()?).ok()?;
    let (id, secret) = joined.split_once(':')?;
    let decoded = |text: &str| {
        let form = format!("x={text}");
        let mut pairs = url::form_urlencoded::parse(form.as_bytes());
        pairs.next().map(|(_, value)| value.into_owned())
    };
    Some((decoded(id)?, decoded(secret)?))
}

/// The names and values that are not as they must be; empty if all are.
fn differences(asked: &BTreeMap<String, String>, expected: &[(&str, &str)]) -> String {
    let mut wrong: Vec<_> = expected
        .iter()
        .filter(|(name, value)| asked.get(*name).is_none_or(|found| !value.is_empty() && found != value))
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let known = |name: &str| expected.iter().any(|(expected, _)| *expected == name);
    wrong.extend(asked.keys().filter(|name| !known(name)).cloned());
    wrong.join(", ")
}
