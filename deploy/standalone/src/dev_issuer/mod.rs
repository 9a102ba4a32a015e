//! The development issuer: a real OIDC issuer inside the standalone process, so that a first try requires no identity
//! provider. Its tokens are verified like those of any configured issuer.
//!
//! Whoever knows the code on the terminal can sign in as anybody, so the issuer runs only if other machines cannot
//! reach it: see [`refuse_public`].

mod authorize;
mod code;
mod grants;
mod key;
mod local;
mod page;
mod public;
mod record;
mod request;
mod token;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;
use serde_json::json;
use service_kit::{Clock, identity::IssuerConfig, keys::KeyFileError};
use url::Url;

use self::{
    code::Attempts,
    grants::Grants,
    key::SigningKey,
    record::{Event, Record, seconds},
};
pub(crate) use self::{
    code::SignInCode,
    local::serve as serve_locally,
    public::{names_this_machine, refuse_public},
    record::this_user,
};

/// The `iss` of its tokens. It contains no port, so that a person is the same user whatever the server's address is.
pub(crate) const ISSUER: &str = "http://chandlery.localhost/dev";
/// The `aud` of tokens from the command line.
pub(crate) const AUDIENCE: &str = "chandlery";
/// The OAuth client of Chandlery's own pages, which is a public client.
pub(crate) const CLIENT_ID: &str = "chandlery-pages";
/// How long a sign-in on a page is valid.
const SIGN_IN_TTL: Duration = Duration::from_secs(8 * 3600);

/// Issues tokens with the key in a data folder.
#[derive(Debug)]
pub(crate) struct DevIssuer {
    key: SigningKey,
    record: Record,
}

/// A token with its `jti` and `exp`.
struct Signed {
    token: String,
    id: String,
    until: u64,
}

/// The user in a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    /// The email address, which is also the subject.
    pub(crate) email: String,
    /// The groups, which team mappings name.
    pub(crate) groups: Vec<String>,
    /// Whether the user is an admin.
    pub(crate) admin: bool,
}

/// The addresses of the issuer, and the code of its sign-in page.
#[derive(Debug)]
pub(crate) struct RouterConfig {
    /// The server's own address, such as `http://127.0.0.1:8080`.
    pub(crate) http_base_url: Url,
    /// The URL under which browsers reach the server.
    pub(crate) public_url: Url,
    /// The code that the sign-in page requires.
    pub(crate) code: SignInCode,
    /// The clock for issue and expiry times.
    pub(crate) clock: Clock,
}

/// The state that the handlers share.
struct Shared {
    issuer: Arc<DevIssuer>,
    base: String,
    public: String,
    code: SignInCode,
    attempts: Attempts,
    grants: Grants,
    clock: Clock,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'static str,
    sub: &'a str,
    aud: &'a str,
    exp: u64,
    iat: u64,
    jti: &'a str,
    email: &'a str,
    email_verified: bool,
    name: String,
    groups: &'a [String],
    roles: &'a [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
}

impl DevIssuer {
    /// Opens the issuer of a data folder. The first call creates its key. Works while a server uses the folder.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, KeyFileError> {
        Ok(Self {
            key: SigningKey::open(data_dir)?,
            record: Record::new(data_dir),
        })
    }

    /// Like [`DevIssuer::open`], but returns `None` if there is no key.
    pub(crate) fn existing(data_dir: &Path) -> Result<Option<Self>, KeyFileError> {
        let key = SigningKey::existing(data_dir)?;
        Ok(key.map(|key| Self {
            key,
            record: Record::new(data_dir),
        }))
    }

    /// Replaces the key of a data folder, if there is one. With `revoke`, earlier tokens become invalid.
    pub(crate) fn rotate(data_dir: &Path, revoke: bool) -> Result<(), KeyFileError> {
        SigningKey::rotate(data_dir, revoke)
    }

    /// The ids of the keys whose tokens are valid, the current one first.
    pub(crate) fn key_ids(&self) -> Vec<String> {
        self.key.ids()
    }

    /// Issues a token for Chandlery, as the `token` command prints it, after recording that `by` has created it.
    pub(crate) fn mint(
        &self,
        by: &str,
        user_email: &str,
        groups: &[String],
        admin: bool,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<String, String> {
        let person = Person {
            email: normal_email(user_email),
            groups: groups.to_vec(),
            admin,
        };
        let Signed { token, id, until } = self.sign(&person, AUDIENCE, ttl, now, None);
        let event = Event::TokenMade { by, token: &id, until };
        self.record_event(event, &person, now)?;
        Ok(token)
    }

    /// Records an event. If that fails, the action must not be done.
    fn record_event(&self, event: Event<'_>, person: &Person, now: SystemTime) -> Result<(), String> {
        self.record
            .write(event, person, now)
            .map_err(|error| format!("the record of the development issuer cannot be written: {error}"))?;
        event.log(person, now);
        Ok(())
    }

    fn sign(&self, person: &Person, audience: &str, ttl: Duration, now: SystemTime, nonce: Option<&str>) -> Signed {
        let iat = seconds(now);
        let until = iat.saturating_add(ttl.as_secs());
        let id = service_kit::random::uuid().to_string();
        let token = self.key.sign(&Claims {
            iss: ISSUER,
            sub: &person.email,
            aud: audience,
            exp: until,
            iat,
            jti: &id,
            email: &person.email,
            email_verified: true,
            name: display_name(&person.email),
            groups: &person.groups,
            roles: if person.admin { &["admin"] } else { &[] },
            nonce,
        });
        Signed { token, id, until }
    }

    /// The configuration by which the services find and trust this issuer. `http_base_url` is the server's own address.
    pub(crate) fn issuer_config(http_base_url: &Url) -> IssuerConfig {
        IssuerConfig {
            issuer: ISSUER.to_owned(),
            discovery_url: Some(format!(
                "{}/dev/.well-known/openid-configuration",
                without_slash(http_base_url)
            )),
            audiences: vec![AUDIENCE.to_owned()],
            required_scopes: Vec::new(),
            client_id: Some(CLIENT_ID.to_owned()),
            client_secret_env: None,
            facade: None,
            scopes: vec!["profile".to_owned(), "email".to_owned()],
            display_name: Some("the development issuer".to_owned()),
            groups_claim: "groups".to_owned(),
            roles_claim: Some("roles".to_owned()),
            admins: service_kit::identity::AdminRules::default(),
            machines: service_kit::identity::MachineRules::default(),
            proxy: None,
        }
    }

    /// The endpoints of the issuer, all below `/dev/`.
    pub(crate) fn router(self: Arc<Self>, config: RouterConfig) -> Router {
        let shared = Arc::new(Shared {
            issuer: self,
            base: without_slash(&config.http_base_url),
            public: without_slash(&config.public_url),
            code: config.code,
            attempts: Attempts::default(),
            grants: Grants::default(),
            clock: config.clock,
        });
        Router::new()
            .route("/dev/.well-known/openid-configuration", get(metadata))
            .route("/dev/jwks.json", get(jwks))
            .route("/dev/authorize", get(authorize::show).post(authorize::submit))
            .route("/dev/style.css", get(page::style))
            .route("/dev/token", post(token::exchange))
            .with_state(shared)
    }
}

/// The metadata (OpenID Connect Discovery 1.0, section 3). Browsers use the public URL, services the server's own
/// address.
async fn metadata(State(shared): State<Arc<Shared>>) -> Response {
    Json(json!({
        "issuer": ISSUER,
        "authorization_endpoint": format!("{}/dev/authorize", shared.public),
        "token_endpoint": format!("{}/dev/token", shared.base),
        "jwks_uri": format!("{}/dev/jwks.json", shared.base),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "scopes_supported": ["openid", "profile", "email"],
        "claims_supported": ["sub", "email", "email_verified", "name", "groups", "roles"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "authorization_response_iss_parameter_supported": true,
    }))
    .into_response()
}

async fn jwks(State(shared): State<Arc<Shared>>) -> Response {
    (
        [(header::CACHE_CONTROL, "max-age=60")],
        Json(json!({ "keys": shared.issuer.key.public_jwks() })),
    )
        .into_response()
}

/// Normalizes an email address, so that one person is one user, however they write it.
fn normal_email(email: &str) -> String {
    email.trim().to_lowercase()
}

/// `Alice` for `alice@example.com`.
fn display_name(email: &str) -> String {
    let local = email.split('@').next().unwrap_or_default();
    let mut letters = local.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

fn without_slash(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests;
