//! The hostile test server: an authorization server of this crate that misbehaves as a test says. Until then it is an honest one, with
//! codes that serve once and PKCE, where the person whom the test names signs in without being asked.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Form, Json, Router,
    body::{Body, Bytes},
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use data_encoding::BASE64URL_NOPAD;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use url::Url;

use crate::{tls::install_crypto, upstream::Served};

/// How it behaves.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// Replaces members of its metadata; null leaves one out.
    pub metadata: Value,
    /// Where its metadata redirects to.
    pub metadata_at: Option<String>,
    /// Where its authorization endpoint sends browsers on to, as the client and with the redirect URI that another server knows: the mix-up
    /// attack (RFC 9700, section 4.4).
    pub mixes_up: Option<MixUp>,
    /// The `iss` with which browsers come back: its own unless set; null for none.
    pub iss: Option<Value>,
    /// Replaces members of what the token endpoint issues; null leaves one out.
    pub tokens: Value,
    /// Whether the token endpoint refuses everything, and repeats what it was sent.
    pub echoes: bool,
    /// The paths whose answers come one byte a second.
    pub trickles: Vec<&'static str>,
}

/// What the mix-up attack uses of another server.
#[derive(Clone, Debug)]
pub struct MixUp {
    /// The authorization endpoint.
    pub page: String,
    /// A client there.
    pub client: String,
    /// Where the client's browsers come back to.
    pub redirect_uri: String,
}

/// A request with the parameters of its query or form.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Without the query.
    pub path: &'static str,
    /// By name; with `authorization`, that header.
    pub parameters: HashMap<String, String>,
}

/// The running server.
#[derive(Debug)]
pub struct HostileAuthorizationServer {
    shared: Arc<Shared>,
    _served: Served,
}

#[derive(Debug)]
struct Shared {
    issuer: String,
    resource: String,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    behaviour: Behaviour,
    account: String,
    asked: Vec<Asked>,
    /// The redirect URI of each client.
    clients: HashMap<String, String>,
    /// The challenge of each code that was not redeemed.
    codes: HashMap<String, String>,
    /// The account of each access token.
    tokens: HashMap<String, String>,
    refresh: HashMap<String, String>,
    issued: usize,
}

const METADATA: &str = "/.well-known/oauth-authorization-server";

impl HostileAuthorizationServer {
    /// Starts it on a free port, for tokens of this resource.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start(resource: &str) -> Self {
        install_crypto();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let issuer = format!("http://{}", listener.local_addr().expect("it is bound"));
        let shared = Arc::new(Shared {
            issuer,
            resource: resource.to_owned(),
            known: Mutex::default(),
        });
        let router = Router::new()
            .route(METADATA, get(metadata))
            .route("/register", post(register))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/token/introspection", post(introspect))
            .route("/revoke", post(revoke))
            .with_state(Arc::clone(&shared));
        Self {
            shared,
            _served: Served::on(listener, router),
        }
    }

    /// Its issuer identifier.
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// Behaves like this from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.shared.known().behaviour = behaviour;
    }

    /// Who signs in.
    pub fn sign_in_as(&self, account: &str) {
        account.clone_into(&mut self.shared.known().account);
    }

    /// The requests to this path so far.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let known = self.shared.known();
        known.asked.iter().filter(|one| one.path == path).cloned().collect()
    }

    /// All access and refresh tokens so far.
    pub fn issued(&self) -> Vec<String> {
        let known = self.shared.known();
        known.tokens.keys().chain(known.refresh.keys()).cloned().collect()
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no holder of this lock panics")
    }

    fn note(&self, path: &'static str, parameters: &HashMap<String, String>) -> Behaviour {
        let mut known = self.known();
        known.asked.push(Asked {
            path,
            parameters: parameters.clone(),
        });
        known.behaviour.clone()
    }
}

impl Known {
    fn new_token(&mut self, kind: &str) -> String {
        self.issued += 1;
        format!("{kind}-{}", uuid::Uuid::new_v4().simple())
    }

    fn issue(&mut self, account: String) -> Value {
        let (access, refresh) = (self.new_token("hostile-at"), self.new_token("hostile-rt"));
        self.tokens.insert(access.clone(), account.clone());
        self.refresh.insert(refresh.clone(), account);
        json!({"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 3600})
    }

    /// `None`: what was sent is of no use, or no longer.
    fn redeem(&mut self, form: &HashMap<String, String>) -> Option<Value> {
        let account = match form.get("grant_type")?.as_str() {
            "authorization_code" => {
                let challenge = self.codes.remove(form.get("code")?)?;
                let digest = Sha256::digest(form.get("code_verifier")?.as_bytes());
                (BASE64URL_NOPAD.encode(&digest) == challenge).then(|| self.account.clone())?
            }
            "refresh_token" => self.refresh.remove(form.get("refresh_token")?)?,
            "client_credentials" => form.get("client_id")?.clone(),
            _ => return None,
        };
        Some(self.issue(account))
    }
}

async fn metadata(State(shared): State<Arc<Shared>>) -> Response {
    let behaviour = shared.note(METADATA, &HashMap::new());
    if let Some(to) = behaviour.metadata_at {
        return Redirect::temporary(&to).into_response();
    }
    let issuer = &shared.issuer;
    let mut document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "registration_endpoint": format!("{issuer}/register"),
        "revocation_endpoint": format!("{issuer}/revoke"),
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    });
    change(&mut document, &behaviour.metadata);
    match behaviour.trickles.contains(&METADATA) {
        true => trickle(document),
        false => Json(document).into_response(),
    }
}

async fn register(State(shared): State<Arc<Shared>>, Json(wish): Json<Value>) -> Response {
    shared.note("/register", &HashMap::new());
    let id = format!("client-{}", uuid::Uuid::new_v4().simple());
    let redirect_uri = wish["redirect_uris"][0].as_str().unwrap_or_default().to_owned();
    shared.known().clients.insert(id.clone(), redirect_uri);
    let client = json!({"client_id": id, "client_secret": "hostile-client-secret"});
    (StatusCode::CREATED, Json(client)).into_response()
}

async fn authorize(State(shared): State<Arc<Shared>>, Query(query): Query<HashMap<String, String>>) -> Response {
    let behaviour = shared.note("/authorize", &query);
    let parameter = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    if let Some(mix_up) = behaviour.mixes_up {
        return pass_on(&query, &mix_up);
    }
    let registered = shared.known().clients.get(parameter("client_id")).cloned();
    let registered = registered.filter(|uri| uri == parameter("redirect_uri"));
    let Some(mut back) = registered.and_then(|uri| Url::parse(&uri).ok()) else {
        return (StatusCode::BAD_REQUEST, "not this client's redirect URI").into_response();
    };
    let code = format!("hostile-code-{}", uuid::Uuid::new_v4().simple());
    let challenge = parameter("code_challenge").to_owned();
    shared.known().codes.insert(code.clone(), challenge);
    back.query_pairs_mut()
        .append_pair("code", &code)
        .append_pair("state", parameter("state"));
    let iss = behaviour.iss.unwrap_or_else(|| json!(shared.issuer));
    if let Some(iss) = iss.as_str() {
        back.query_pairs_mut().append_pair("iss", iss);
    }
    (StatusCode::SEE_OTHER, [("location", back.to_string())]).into_response()
}

fn pass_on(query: &HashMap<String, String>, mix_up: &MixUp) -> Response {
    let Ok(mut page) = Url::parse(&mix_up.page) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let replaced = [("client_id", &mix_up.client), ("redirect_uri", &mix_up.redirect_uri)];
    let kept = query.iter().map(|(name, value)| (name.as_str(), value));
    let kept = kept.filter(|(name, _)| replaced.iter().all(|(replaced, _)| replaced != name));
    page.query_pairs_mut().extend_pairs(kept.chain(replaced));
    (StatusCode::SEE_OTHER, [("location", page.to_string())]).into_response()
}

async fn token(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Form(mut form): Form<HashMap<String, String>>,
) -> Response {
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    form.extend(authorization.map(|value| ("authorization".to_owned(), value.to_owned())));
    let behaviour = shared.note("/token", &form);
    if behaviour.echoes {
        let all: Vec<_> = form.values().map(String::as_str).collect();
        let body = json!({"error": all.join(" "), "error_description": all.join("\n")});
        return (StatusCode::BAD_REQUEST, Json(body)).into_response();
    }
    if behaviour.trickles.contains(&"/token") {
        // It issues nothing before its answer has arrived.
        return trickle(json!({"access_token": "hostile-never", "token_type": "Bearer"}));
    }
    let redeemed = shared.known().redeem(&form);
    let Some(mut tokens) = redeemed else {
        return (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response();
    };
    change(&mut tokens, &behaviour.tokens);
    Json(tokens).into_response()
}

async fn revoke(State(shared): State<Arc<Shared>>, Form(form): Form<HashMap<String, String>>) {
    shared.note("/revoke", &form);
}

/// RFC 7662, for the upstream.
async fn introspect(State(shared): State<Arc<Shared>>, Form(form): Form<HashMap<String, String>>) -> Json<Value> {
    let known = shared.known();
    let account = form.get("token").and_then(|token| known.tokens.get(token));
    Json(json!({"active": account.is_some(), "aud": shared.resource, "sub": account}))
}

fn change(document: &mut Value, by: &Value) {
    for (name, value) in by.as_object().into_iter().flatten() {
        match (value, document.as_object_mut()) {
            (Value::Null, Some(members)) => drop(members.remove(name)),
            (value, _) => document[name] = value.clone(),
        }
    }
}

fn trickle(document: Value) -> Response {
    let bytes: Vec<_> = document.to_string().into_bytes();
    let drops = stream::iter(bytes).then(|byte| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, Infallible>(Bytes::from(vec![byte]))
    });
    ([("content-type", "application/json")], Body::from_stream(drops)).into_response()
}
