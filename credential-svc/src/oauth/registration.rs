//! Dynamic client registration (RFC 7591).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use reqwest::Url;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{
    answer,
    form::Form,
    http::{Body, Http, Reach, Request},
    token::MAX_ANSWER,
};
use crate::domain::authorization::servers::{Authentication, Client, Metadata, Registration, ServerError};

const BASIC: &str = "client_secret_basic";
const POST: &str = "client_secret_post";
const NONE: &str = "none";
const MAX_ID: usize = 2_048;
const MAX_SECRET: usize = 16 << 10;
/// 9999-12-31T23:59:59Z, in seconds.
const YEAR_9999: f64 = 253_402_300_799.0;

pub(super) async fn register(
    http: &Http,
    metadata: &Metadata,
    redirect_uri: &str,
) -> Result<Registration, ServerError> {
    if metadata.registration_endpoint.is_empty() {
        let text = format!("{} does not register clients: the entry must name one", metadata.issuer);
        return Err(ServerError::Unusable(text));
    }
    let method = method(&metadata.authentication_methods);
    let method = method.ok_or_else(|| {
        let text = format!(
            "{} supports no way to authenticate that a registered client has: the entry must name a client",
            metadata.issuer
        );
        ServerError::Unusable(text)
    })?;
    let wish = json!({
        "client_name": "Chandlery",
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": method,
        "application_type": application_type(redirect_uri),
    });
    let body = Body {
        content_type: "application/json",
        bytes: Bytes::from(wish.to_string()),
    };
    let url = &metadata.registration_endpoint;
    let turn = http.turn(Reach::of(metadata), "the registration endpoint", url).await?;
    let answer = http.send(turn, Request::post(body, MAX_ANSWER)).await?;
    let mut fields = answer::read(&answer, &Form::default())?;

    let unusable = |why: &str| ServerError::Unusable(format!("{} registered a client {why}", answer.origin));
    let id = fields
        .text("client_id")
        .filter(|id| id.len() <= MAX_ID)
        .map(str::to_owned);
    let id = id.ok_or_else(|| unusable("without an id, or with one longer than 2,048 bytes"))?;
    let given = fields.text("token_endpoint_auth_method").map(str::to_owned);
    let secret = fields.secret("client_secret");
    let secret = secret.filter(|secret| secret.expose_secret().len() <= MAX_SECRET);
    let authentication = match (given.as_deref().unwrap_or(method), secret) {
        (BASIC, Some(secret)) => Authentication::Basic(secret),
        (POST, Some(secret)) => Authentication::Post(secret),
        (NONE, _) => Authentication::None,
        // A public client, although the server does not say so.
        (_, None) if given.is_none() => Authentication::None,
        (BASIC | POST, None) => return Err(unusable("without a secret")),
        _ => return Err(unusable("that authenticates in a way that was not asked for")),
    };
    let secret_expires = match &authentication {
        Authentication::Basic(_) | Authentication::Post(_) => fields.get("client_secret_expires_at").and_then(expires),
        _ => None,
    };
    Ok(Registration {
        client: Client { id, authentication },
        secret_expires,
    })
}

/// 0 stands for never.
fn expires(value: &Value) -> Option<SystemTime> {
    let seconds = value.as_f64().filter(|seconds| *seconds > 0.0)?;
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds.min(YEAR_9999)).ok()?)
}

/// The way to authenticate to ask for: one with a secret where the server has it, since nobody else can then use a refresh token.
fn method(supported: &[String]) -> Option<&'static str> {
    // RFC 8414, section 2.
    if supported.is_empty() {
        return Some(BASIC);
    }
    [BASIC, POST, NONE]
        .into_iter()
        .find(|method| supported.iter().any(|one| one == method))
}

/// OpenID Connect Dynamic Client Registration 1.0, section 2, which MCP 2026-07-28 requires to be sent: servers permit `http` and loopback
/// only to native clients.
fn application_type(redirect_uri: &str) -> &'static str {
    let is_local = |url: Url| match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match Url::parse(redirect_uri).is_ok_and(is_local) {
        true => "native",
        false => "web",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_what_the_server_supports() {
        let method = |supported: &[&str]| {
            let supported: Vec<_> = supported.iter().map(|&one| one.to_owned()).collect();
            super::method(&supported)
        };
        assert_eq!(method(&[]), Some(BASIC));
        assert_eq!(method(&[NONE, POST]), Some(POST));
        assert_eq!(method(&[NONE, POST, BASIC]), Some(BASIC));
        assert_eq!(method(&["private_key_jwt", NONE]), Some(NONE));
        assert_eq!(method(&["private_key_jwt"]), None);
    }

    #[test]
    fn zero_is_never() {
        let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(expires(&json!(0)), None);
        assert_eq!(expires(&json!(-1)), None);
        assert_eq!(expires(&json!("soon")), None);
        assert_eq!(expires(&json!(1_800_000_000)), at(1_800_000_000));
        assert_eq!(expires(&json!(1e300)), at(253_402_300_799));
    }

    #[test]
    fn is_native_only_on_this_machine() {
        assert_eq!(application_type("https://gateway.example.com/callback"), "web");
        assert_eq!(application_type("http://127.0.0.1:8080/callback"), "native");
        assert_eq!(application_type("http://localhost/callback"), "native");
        assert_eq!(application_type("http://[::1]/callback"), "native");
    }
}
