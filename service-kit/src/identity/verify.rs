//! Verifies JWTs (RFC 7519, RFC 8725) of the configured issuers.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, Header, Validation};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    issuer::{IssuerConfig, OidcEndpoints},
    jwks::{Keys, is_trustworthy},
    user::{LEEWAY, User, UserId},
};
use crate::clock::Clock;

/// The prefix of every gateway token.
pub const GATEWAY_TOKEN: &str = "cht_";
/// A verified token is looked up instead of verified again for this long, and for [`KNOWN_FOR`] more. A withdrawn key is therefore accepted for a
/// minute longer than the limits in `jwks.rs` say.
const CACHE_TIME: Duration = Duration::from_secs(60 - KNOWN_FOR.as_secs());
/// How long a service may take who sent a token for known without asking [`Verifier`] again.
pub const KNOWN_FOR: Duration = Duration::from_secs(5);
const CACHED: u64 = 100_000;
/// Longer tokens are rejected unread; real ones are shorter.
const MAX_TOKEN: usize = 16 * 1024;

/// Asymmetric algorithms only: with a shared secret, every verifier could also sign.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Why a token was rejected. The text is for the person who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a JWT, or one with an algorithm that is not accepted, such as `none`.
    #[error("it is not a JWT signed with an asymmetric algorithm")]
    Malformed,
    /// A gateway token, which only gateways and agents accept.
    #[error("it is a gateway token, which works at gateways and agents only; send a JWT of a configured issuer")]
    GatewayToken,
    /// A JWT that is not an access token, such as a security event.
    #[error("it is not an access token")]
    WrongKind,
    /// `iss` is not configured.
    #[error("its issuer is not configured here")]
    UnknownIssuer,
    /// The signature does not match, or the key is unknown.
    #[error("its signature does not match the issuer's keys, which may have changed since; get a new one")]
    BadSignature,
    /// `exp` is in the past.
    #[error("it has expired; get a new one")]
    Expired,
    /// `nbf` is in the future.
    #[error("it is not valid yet")]
    NotYetValid,
    /// `aud` does not contain the audience of this service.
    #[error("its audience is not this service")]
    WrongAudience,
    /// A scope that the issuer's tokens must have is missing: `required_scopes` of its configuration.
    #[error("it lacks a scope that is required here")]
    InsufficientScope,
    /// `sub` or `exp` is missing or invalid.
    #[error("it lacks a required claim")]
    MissingClaim,
    /// The issuer's keys are unavailable.
    #[error("its issuer is unreachable, so it cannot be verified; retry")]
    IssuerUnreachable,
}

/// Verifies tokens. All services of a process share one.
#[derive(Debug)]
pub struct Verifier {
    issuers: HashMap<String, Arc<Issuer>>,
    order: Vec<String>,
    verified: moka::sync::Cache<(Use, [u8; 32]), Arc<User>, std::hash::RandomState>,
    clock: Clock,
}

/// The purpose for which a token is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// A call to an API. Requires an access token, whose audience is Chandlery.
    Call,
    /// Sign-in to the pages. Accepts an ID token (OpenID Connect Core 1.0, section 2), whose audience is the pages'
    /// OAuth client, or an access token.
    SignIn,
}

#[derive(Debug)]
struct Issuer {
    config: IssuerConfig,
    keys: Keys,
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    exp: f64,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
struct Unverified {
    iss: String,
}

impl Verifier {
    /// Accepts tokens of these issuers. An issuer's keys are fetched when its first token arrives.
    ///
    /// # Errors
    /// If the proxy of an issuer is not the URL of an HTTP proxy.
    pub fn new(issuers: Vec<IssuerConfig>, clock: Clock) -> Result<Self, BadProxy> {
        let order = issuers.iter().map(|config| config.issuer.clone()).collect();
        let issuers = issuers
            .into_iter()
            .map(|config| {
                let keys = Keys::new(config.clone(), client(&config)?, clock.clone());
                let http = client(&config)?;
                Ok((config.issuer.clone(), Arc::new(Issuer { config, keys, http })))
            })
            .collect::<Result<_, BadProxy>>()?;
        let verified = moka::sync::Cache::builder()
            .max_capacity(CACHED)
            .time_to_live(CACHE_TIME)
            .build();
        Ok(Self {
            issuers,
            order,
            verified,
            clock,
        })
    }

    /// The configured issuers, in the order of configuration.
    pub fn issuers(&self) -> impl Iterator<Item = &IssuerConfig> {
        self.order.iter().map(|issuer| &self.issuers[issuer].config)
    }

    /// The configured issuer that a token names; the token is not verified.
    pub fn issuer_of(&self, token: &str) -> Option<&IssuerConfig> {
        let unverified: Unverified = unverified_claims(token)?;
        Some(&self.issuers.get(&unverified.iss)?.config)
    }

    /// The endpoints of a configured issuer; `None` if it is not configured or is unreachable.
    pub async fn endpoints(&self, issuer: &str) -> Option<OidcEndpoints> {
        self.issuers.get(issuer)?.keys.endpoints().await.ok()
    }

    /// The HTTP client for requests to a configured issuer. It uses the issuer's own proxy or none, never one that the
    /// environment names, and has no timeout. The verifier itself does not use it: it fetches keys on whichever runtime verifies a token, and a
    /// connection ends with the runtime that opened it.
    pub fn http(&self, issuer: &str) -> Option<&reqwest::Client> {
        Some(&self.issuers.get(issuer)?.http)
    }

    /// Verifies an access token and returns its user. Cheap for a token that was verified in the last minute.
    pub async fn verify(&self, token: &str) -> Result<Arc<User>, TokenError> {
        self.verify_for(Use::Call, token).await
    }

    /// Verifies a token for this purpose and returns its user.
    pub async fn verify_for(&self, shown_for: Use, token: &str) -> Result<Arc<User>, TokenError> {
        if token.starts_with(GATEWAY_TOKEN) {
            return Err(TokenError::GatewayToken);
        }
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Malformed);
        }
        let key = (shown_for, Sha256::digest(token.as_bytes()).into());
        if let Some(user) = self.verified.get(&key) {
            return if user.is_expired(self.clock.now()) {
                Err(TokenError::Expired)
            } else {
                Ok(user)
            };
        }
        let user = Arc::new(self.verify_uncached(shown_for, token).await?);
        self.verified.insert(key, Arc::clone(&user));
        Ok(user)
    }

    /// The user of an access token that this process verified in the last minute; never waits.
    pub fn verified(&self, token: &str) -> Option<Arc<User>> {
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        self.verified
            .get(&(Use::Call, key))
            .filter(|user| !user.is_expired(self.clock.now()))
    }

    /// The user of a token that has just come from its issuer, over a connection that says who that is: everything is checked but the signature
    /// (OpenID Connect Core 1.0, section 3.1.3.7, number 6). For when the issuer's keys are unavailable; whoever is shown the token later verifies it.
    pub fn read_issued(&self, shown_for: Use, token: &str) -> Result<User, TokenError> {
        let (_, issuer) = self.header(token)?;
        let claims = unverified_claims(token).ok_or(TokenError::MissingClaim)?;
        self.user(claims, shown_for, &issuer.config)
    }

    /// The header of a token, and the issuer that it names.
    fn header(&self, token: &str) -> Result<(Header, &Issuer), TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Malformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(TokenError::Malformed);
        }
        if !header.typ.as_deref().is_none_or(is_token_type) || has_critical_extensions(token) {
            return Err(TokenError::WrongKind);
        }
        let unverified: Unverified = unverified_claims(token).ok_or(TokenError::Malformed)?;
        let issuer = self.issuers.get(&unverified.iss).ok_or(TokenError::UnknownIssuer)?;
        Ok((header, issuer))
    }

    async fn verify_uncached(&self, shown_for: Use, token: &str) -> Result<User, TokenError> {
        let (header, issuer) = self.header(token)?;
        let key = issuer
            .keys
            .find(header.kid.as_deref())
            .await
            .map_err(|_| TokenError::IssuerUnreachable)?
            .ok_or(TokenError::BadSignature)?;
        // A key that names an algorithm verifies no other.
        if key
            .algorithm
            .is_some_and(|named| named.to_string() != format!("{:?}", header.alg))
        {
            return Err(TokenError::BadSignature);
        }
        let mut validation = Validation::new(header.alg);
        // Time and audience are checked below, with the injected clock and with a reason for each rejection.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims = jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation)
            .map_err(|error| match error.kind() {
                jsonwebtoken::errors::ErrorKind::Json(_) => TokenError::MissingClaim,
                _ => TokenError::BadSignature,
            })?
            .claims;
        self.user(claims, shown_for, &issuer.config)
    }

    fn user(&self, claims: Claims, shown_for: Use, config: &IssuerConfig) -> Result<User, TokenError> {
        // RFC 8417, section 2.2: a security event is not a token, but may have all claims of one.
        if claims.rest.contains_key("events") {
            return Err(TokenError::WrongKind);
        }
        let now = self.clock.now();
        let expires_at = numeric_date(claims.exp).ok_or(TokenError::MissingClaim)?;
        if expires_at + LEEWAY <= now {
            return Err(TokenError::Expired);
        }
        if let Some(not_before) = claims.rest.get("nbf") {
            let not_before = not_before
                .as_f64()
                .and_then(numeric_date)
                .ok_or(TokenError::MissingClaim)?;
            if not_before > now + LEEWAY {
                return Err(TokenError::NotYetValid);
            }
        }
        if claims.sub.is_empty() || claims.sub.len() > 255 || claims.sub.contains('\0') || claims.iss != config.issuer {
            return Err(TokenError::MissingClaim);
        }
        let audiences = strings(claims.rest.get("aud"));
        let is_client = |audience: &String| config.client_id.as_ref() == Some(audience);
        let is_access_token = audiences.iter().any(|audience| config.audiences.contains(audience));
        let is_id_token = audiences.iter().any(is_client);
        match shown_for {
            _ if is_access_token => {}
            Use::SignIn if is_id_token => {}
            Use::Call if is_id_token => return Err(TokenError::WrongKind),
            Use::Call | Use::SignIn => return Err(TokenError::WrongAudience),
        }
        if is_access_token && !config.is_satisfied_by(&scopes(&claims.rest)) {
            return Err(TokenError::InsufficientScope);
        }
        // Databases do not accept a NUL in text.
        let text = |name: &str| {
            let text = claims.rest.get(name).and_then(Value::as_str);
            text.map(|text| text.replace('\0', ""))
        };
        let email = text("email");
        let groups = strings(claims.rest.get(&config.groups_claim));
        let email_verified = claims.rest.get("email_verified") == Some(&Value::Bool(true));
        let roles = config.roles_claim.as_ref().and_then(|claim| claims.rest.get(claim));
        let admin = strings(roles).iter().any(|role| role == "admin")
            || groups.iter().any(|group| config.admins.groups.contains(group))
            || email.as_ref().is_some_and(|email| {
                email_verified
                    && config
                        .admins
                        .emails
                        .iter()
                        .any(|admin| admin.eq_ignore_ascii_case(email))
            });
        Ok(User {
            id: UserId::of(&claims.iss, &claims.sub),
            machine: config.machines.apply(&claims.sub, &claims.rest),
            issuer: claims.iss,
            subject: claims.sub,
            audiences,
            email,
            display_name: text("name"),
            groups,
            admin,
            expires_at,
        })
    }
}

/// The proxy of an issuer is not the URL of an HTTP proxy.
#[derive(Debug, thiserror::Error)]
#[error("the proxy of the issuer {issuer} must be the URL of an HTTP proxy")]
pub struct BadProxy {
    issuer: String,
}

/// Whether secrets may be sent to this URL of an issuer: only over https, or to this machine.
pub fn takes_secrets(url: &str) -> bool {
    is_trustworthy(url)
}

fn client(config: &IssuerConfig) -> Result<reqwest::Client, BadProxy> {
    let mut client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    if let Some(proxy) = &config.proxy {
        client = client.proxy(reqwest::Proxy::all(proxy).map_err(|_| BadProxy {
            issuer: config.issuer.clone(),
        })?);
    }
    Ok(client.build().expect("the TLS provider is installed first in main"))
}

/// Whether a JWT with this `typ` header can be an access token or an ID token (RFC 9068, section 2.1; RFC 7519, section
/// 5.1). Every other kind of token has a type of its own (RFC 8725, section 3.11).
fn is_token_type(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

/// RFC 7515, section 4.1.11: a recipient must reject a token whose critical extensions it does not understand, and this
/// verifier understands none.
fn has_critical_extensions(token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    let header = data_encoding::BASE64URL_NOPAD.decode(header.as_bytes()).ok();
    header
        .and_then(|header| serde_json::from_slice::<Value>(&header).ok())
        .is_none_or(|header| header.get("crit").is_some())
}

fn unverified_claims<T: serde::de::DeserializeOwned>(token: &str) -> Option<T> {
    let payload = token.split('.').nth(1)?;
    let payload = data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// RFC 7519, section 2: seconds since 1970, possibly with a fraction.
fn numeric_date(seconds: f64) -> Option<SystemTime> {
    (seconds.is_finite() && (0.0..1e12).contains(&seconds)).then(|| UNIX_EPOCH + Duration::from_secs_f64(seconds))
}

/// The scopes of an access token: `scope` (RFC 9068, section 2.2.3), or `scp` at issuers that use that name.
fn scopes(claims: &serde_json::Map<String, Value>) -> Vec<String> {
    ["scope", "scp"]
        .into_iter()
        .flat_map(|name| strings(claims.get(name)))
        .flat_map(|scopes| scopes.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// A claim that is one string or a list of them.
fn strings(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}
