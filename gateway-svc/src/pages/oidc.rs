//! The OAuth side of sign-in: authorization code with PKCE (RFC 6749, RFC 7636), and the ID token's own checks
//! (OpenID Connect Core 1.0, section 3.1.3.7).

use std::{fmt, time::Duration};

use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken, EndpointNotSet, ExtraTokenFields,
    HttpRequest, HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, StandardRevocableToken,
    StandardTokenResponse, TokenUrl,
    basic::{BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType},
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::identity::{IssuerConfig, OidcEndpoints, takes_secrets};
use url::Url;

const MAX_ANSWER: usize = 1 << 20;
/// How long a token endpoint may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What the token endpoint adds for OpenID Connect.
#[derive(Serialize, Deserialize)]
struct IdTokenField {
    id_token: Option<String>,
}

impl ExtraTokenFields for IdTokenField {}

impl fmt::Debug for IdTokenField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdTokenField")
    }
}

type OidcClient<HasAuthUrl = EndpointNotSet> = Client<
    BasicErrorResponse,
    StandardTokenResponse<IdTokenField, BasicTokenType>,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    HasAuthUrl,
>;

/// Where to send the browser, and what to remember until it is back.
pub(super) struct Begun {
    pub(super) url: Url,
    pub(super) state: String,
    pub(super) verifier: String,
}

/// The issuer cannot be used, or did not give a token; for the log.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Failed(String);

/// Begins a sign-in.
pub(super) fn begin(
    config: &IssuerConfig,
    endpoints: &OidcEndpoints,
    redirect: &str,
    nonce: &str,
    again: bool,
) -> Result<Begun, Failed> {
    let authorize = endpoints.authorization_endpoint.clone();
    let authorize = authorize.ok_or_else(|| Failed("its metadata names no authorization endpoint".to_owned()))?;
    let client = client(config)?
        .set_auth_uri(AuthUrl::new(authorize).map_err(invalid)?)
        .set_redirect_uri(RedirectUrl::new(redirect.to_owned()).map_err(invalid)?);
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let mut request = client
        .authorize_url(CsrfToken::new_random)
        .add_scope(Scope::new("openid".to_owned()))
        .add_scopes(
            config
                .scopes
                .iter()
                .filter(|scope| *scope != "openid")
                .cloned()
                .map(Scope::new),
        )
        .set_pkce_challenge(challenge)
        .add_extra_param("nonce", nonce);
    if again {
        request = request.add_extra_param("prompt", "login");
    }
    let (url, state) = request.url();
    Ok(Begun {
        url,
        state: state.into_secret(),
        verifier: verifier.into_secret(),
    })
}

/// Exchanges a code for an ID token, not yet verified.
pub(super) async fn exchange(
    http: &reqwest::Client,
    config: &IssuerConfig,
    endpoints: &OidcEndpoints,
    redirect: &str,
    code: String,
    verifier: String,
) -> Result<SecretString, Failed> {
    let token = endpoints.token_endpoint.clone();
    let token = token.ok_or_else(|| Failed("its metadata names no token endpoint".to_owned()))?;
    if !takes_secrets(&token) {
        return Err(Failed(format!(
            "its token endpoint is asked by https only, except on this machine: {token}"
        )));
    }
    let mut client = client(config)?
        .set_token_uri(TokenUrl::new(token).map_err(invalid)?)
        .set_redirect_uri(RedirectUrl::new(redirect.to_owned()).map_err(invalid)?);
    let methods = &endpoints.token_endpoint_auth_methods_supported;
    if !methods.is_empty() && !methods.iter().any(|method| method == "client_secret_basic") {
        client = client.set_auth_type(AuthType::RequestBody);
    }
    let http = http.clone();
    let send = move |request: HttpRequest| send(http.clone(), request);
    let response = client
        .exchange_code(AuthorizationCode::new(code))
        .set_pkce_verifier(PkceCodeVerifier::new(verifier))
        .request_async(&send)
        .await
        .map_err(|error| {
            Failed(match error {
                oauth2::RequestTokenError::ServerResponse(response) => {
                    format!("the token endpoint refused: {response}")
                }
                oauth2::RequestTokenError::Request(error) => error.to_string(),
                // What could not be parsed may hold a token.
                oauth2::RequestTokenError::Parse(..) => "the token endpoint's answer cannot be read".to_owned(),
                oauth2::RequestTokenError::Other(error) => error,
            })
        })?;
    let id_token = response.extra_fields().id_token.clone();
    id_token
        .map(SecretString::from)
        .ok_or_else(|| Failed("the token endpoint gave no ID token".to_owned()))
}

/// What an ID token must say besides what every token must: that it answers this sign-in, for this client. To be asked
/// only of a token whose signature, issuer and time are verified.
pub(super) fn answers_this_sign_in(id_token: &str, client_id: &str, nonce: &str) -> bool {
    let claims = id_token.split('.').nth(1);
    let claims = claims.and_then(|claims| data_encoding::BASE64URL_NOPAD.decode(claims.as_bytes()).ok());
    let Some(claims) = claims.and_then(|claims| serde_json::from_slice::<Value>(&claims).ok()) else {
        return false;
    };
    let for_us = match &claims["aud"] {
        Value::String(audience) => audience == client_id,
        Value::Array(audiences) => audiences.iter().any(|audience| audience == client_id),
        _ => false,
    };
    let by_us = claims["azp"].is_null() || claims["azp"] == client_id;
    for_us && by_us && claims["nonce"] == nonce
}

fn client(config: &IssuerConfig) -> Result<OidcClient, Failed> {
    let id = config
        .client_id
        .clone()
        .ok_or_else(|| Failed("no client_id is configured".to_owned()))?;
    let client = OidcClient::new(ClientId::new(id));
    match &config.client_secret_env {
        None => Ok(client),
        Some(variable) => match std::env::var(variable) {
            Ok(secret) => Ok(client.set_client_secret(ClientSecret::new(secret))),
            Err(_) => Err(Failed(format!(
                "the environment variable {variable} holds no client secret"
            ))),
        },
    }
}

fn invalid(error: url::ParseError) -> Failed {
    Failed(format!("a URL of its metadata is none: {error}"))
}

async fn send(http: reqwest::Client, request: HttpRequest) -> Result<HttpResponse, SendError> {
    let mut request = reqwest::Request::try_from(request)?;
    *request.timeout_mut() = Some(TIMEOUT);
    let mut response = http.execute(request).await.map_err(reqwest::Error::without_url)?;
    let mut answer = HttpResponse::new(Vec::new());
    *answer.status_mut() = response.status();
    *answer.headers_mut() = std::mem::take(response.headers_mut());
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        if answer.body().len() + chunk.len() > MAX_ANSWER {
            return Err(SendError::TooLarge);
        }
        answer.body_mut().extend_from_slice(&chunk);
    }
    Ok(answer)
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the token endpoint cannot be reached: {0}")]
    Http(#[from] reqwest::Error),
    #[error("the token endpoint's answer is too large")]
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_an_id_token_only_for_this_sign_in() {
        let token = |claims: Value| {
            format!(
                "e30.{}.c2ln",
                data_encoding::BASE64URL_NOPAD.encode(claims.to_string().as_bytes())
            )
        };
        let check = |claims| answers_this_sign_in(&token(claims), "us", "n1");
        assert!(check(serde_json::json!({ "aud": "us", "nonce": "n1" })));
        assert!(check(
            serde_json::json!({ "aud": ["us", "api"], "azp": "us", "nonce": "n1" })
        ));
        assert!(!check(serde_json::json!({ "aud": "us", "nonce": "n2" })));
        assert!(!check(serde_json::json!({ "aud": "us" })));
        assert!(!check(serde_json::json!({ "aud": "api", "nonce": "n1" })));
        assert!(!check(
            serde_json::json!({ "aud": ["us"], "azp": "them", "nonce": "n1" })
        ));
        assert!(!answers_this_sign_in("nonsense", "us", "n1"));
    }
}
