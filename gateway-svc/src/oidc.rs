//! The OAuth side of sign-in at an identity provider, for the pages and for the facade: authorization code with PKCE (RFC 6749, RFC 7636),
//! and the ID token's own checks (OpenID Connect Core 1.0, section 3.1.3.7).

use std::{fmt, sync::LazyLock, time::Duration};

use futures::future::BoxFuture;
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken, EndpointNotSet, EndpointSet,
    ExtraTokenFields, HttpRequest, HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken,
    RequestTokenError, Scope, StandardRevocableToken, StandardTokenResponse, TokenResponse as _, TokenUrl,
    basic::{
        BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
        BasicTokenType,
    },
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::identity::{FacadeRules, IssuerConfig, OidcEndpoints, Verifier, takes_secrets};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use url::{Url, form_urlencoded};

const MAX_ANSWER: usize = 1 << 20;
/// How long an endpoint may take while a person waits.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long it may take for a refresh. What it answers later is lost, and with it the sign-in: it may take the refresh token only once. That is
/// longer than a stop waits: a shorter time would lose as much at every stop, and more at all other times.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(60);

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

type OidcClient<HasAuthUrl = EndpointNotSet, HasTokenUrl = EndpointNotSet> = Client<
    BasicErrorResponse,
    StandardTokenResponse<IdTokenField, BasicTokenType>,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    HasAuthUrl,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    HasTokenUrl,
>;

/// Where to send the browser, and what to remember until it is back.
pub(crate) struct Begun {
    pub(crate) url: Url,
    pub(crate) state: String,
    pub(crate) verifier: String,
}

type Sent = BoxFuture<'static, Result<HttpResponse, SendError>>;

/// An issuer that can be reached.
pub(crate) struct Provider<'a> {
    pub(crate) config: &'a IssuerConfig,
    pub(crate) endpoints: OidcEndpoints,
    http: &'a reqwest::Client,
    runtime: &'a Handle,
}

/// What a token endpoint gives.
pub(crate) struct Tokens {
    pub(crate) access: SecretString,
    pub(crate) id: Option<SecretString>,
    pub(crate) refresh: Option<SecretString>,
}

/// The issuer cannot be used, or did not give a token; for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// It refuses the code or the refresh token itself (RFC 6749, section 5.2, `invalid_grant`).
    #[error("the token endpoint refused: {0}")]
    Grant(String),
    #[error("{0}")]
    Other(String),
}

/// What a sign-in is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose<'a> {
    /// The pages.
    Pages {
        /// The issuer is to ask again who it is.
        again: bool,
    },
    /// An MCP client, which gets tokens for calls.
    Facade(&'a FacadeRules),
}

/// Begins a sign-in.
pub(crate) fn begin(
    config: &IssuerConfig,
    endpoints: &OidcEndpoints,
    redirect: &str,
    nonce: &str,
    purpose: Purpose<'_>,
) -> Result<Begun, Failed> {
    let authorize = endpoints.authorization_endpoint.clone();
    let authorize = authorize.ok_or_else(|| other("its metadata names no authorization endpoint"))?;
    let client = client(config)?
        .set_auth_uri(AuthUrl::new(authorize).map_err(invalid)?)
        .set_redirect_uri(RedirectUrl::new(redirect.to_owned()).map_err(invalid)?);
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let scopes = config.scopes.iter();
    let scopes: Vec<&String> = match purpose {
        Purpose::Pages { .. } => scopes.collect(),
        Purpose::Facade(rules) => scopes.chain(&config.required_scopes).chain(&rules.scopes).collect(),
    };
    let mut request = client
        .authorize_url(CsrfToken::new_random)
        .add_scope(Scope::new("openid".to_owned()))
        .add_scopes(
            scopes
                .into_iter()
                .filter(|scope| *scope != "openid")
                .cloned()
                .map(Scope::new),
        )
        .set_pkce_challenge(challenge)
        .add_extra_param("nonce", nonce);
    match purpose {
        Purpose::Pages { again: true } => request = request.add_extra_param("prompt", "login"),
        Purpose::Pages { again: false } => {}
        Purpose::Facade(rules) => {
            for (name, value) in rules.parameters.iter().chain(resource(config)) {
                request = request.add_extra_param(name, value);
            }
        }
    }
    let (url, state) = request.url();
    Ok(Begun {
        url,
        state: state.into_secret(),
        verifier: verifier.into_secret(),
    })
}

impl<'a> Provider<'a> {
    /// `None` while it is unreachable. Its requests run on `runtime`, for each the same one: a connection that one of them has opened serves others,
    /// and would break them off if it ended with the thread of a client.
    pub(crate) async fn reach(verifier: &'a Verifier, config: &'a IssuerConfig, runtime: &'a Handle) -> Option<Self> {
        let endpoints = verifier.endpoints(&config.issuer).await;
        let (endpoints, http) = endpoints.zip(verifier.http(&config.issuer))?;
        Some(Self {
            config,
            endpoints,
            http,
            runtime,
        })
    }

    /// Exchanges a code for tokens, not yet verified.
    pub(crate) async fn exchange(
        &self,
        redirect: &str,
        code: String,
        verifier: String,
        purpose: Purpose<'_>,
    ) -> Result<Tokens, Failed> {
        let redirect = RedirectUrl::new(redirect.to_owned()).map_err(invalid)?;
        let client = self.client()?.set_redirect_uri(redirect);
        let mut request = client
            .exchange_code(AuthorizationCode::new(code))
            .set_pkce_verifier(PkceCodeVerifier::new(verifier));
        if let (Purpose::Facade(_), Some((name, value))) = (purpose, resource(self.config)) {
            request = request.add_extra_param(name, value);
        }
        tokens(request.request_async(&self.within(TIMEOUT)).await)
    }

    /// Exchanges a refresh token for tokens, not yet verified.
    pub(crate) async fn refresh(&self, token: &SecretString) -> Result<Tokens, Failed> {
        let client = self.client()?;
        let token = RefreshToken::new(token.expose_secret().to_owned());
        let mut request = client.exchange_refresh_token(&token);
        if let Some((name, value)) = resource(self.config) {
            request = request.add_extra_param(name, value);
        }
        tokens(request.request_async(&self.within(REFRESH_TIMEOUT)).await)
    }

    /// Revokes a token (RFC 7009), where the issuer can.
    pub(crate) async fn revoke(&self, hint: &str, token: &SecretString) -> Result<(), Failed> {
        let Self { config, endpoints, .. } = self;
        let Some(url) = &endpoints.revocation_endpoint else {
            return Ok(());
        };
        let url = for_secrets("revocation", url)?;
        let id = config.client_id.as_deref().unwrap_or_default();
        let mut form = vec![("token", token.expose_secret()), ("token_type_hint", hint)];
        let secret = secret(config)?;
        let mut headers = http::HeaderMap::new();
        match &secret {
            Some(secret) if !by_body(endpoints) => {
                let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let basic = format!("{}:{}", encode(id), encode(secret.expose_secret()));
                let basic = format!("Basic {}", data_encoding::BASE64.encode(basic.as_bytes()));
                let mut basic = http::HeaderValue::try_from(basic).map_err(|_| other("its client cannot be named"))?;
                basic.set_sensitive(true);
                headers.insert(http::header::AUTHORIZATION, basic);
            }
            Some(secret) => form.extend([("client_id", id), ("client_secret", secret.expose_secret())]),
            None => form.push(("client_id", id)),
        }
        headers.insert(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let mut request = HttpRequest::new(body.into_bytes());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = url.parse().map_err(|_| other("its revocation endpoint is not a URL"))?;
        *request.headers_mut() = headers;
        let answer = self.within(TIMEOUT)(request)
            .await
            .map_err(|error| other(&error.to_string()))?;
        match answer.status() {
            http::StatusCode::OK => Ok(()),
            status => Err(Failed::Other(format!("the revocation endpoint answered with {status}"))),
        }
    }

    /// Sends a request, which may take so long.
    fn within(&self, timeout: Duration) -> impl Fn(HttpRequest) -> Sent {
        let (http, runtime) = (self.http.clone(), self.runtime.clone());
        move |request| {
            let sent = AbortOnDropHandle::new(runtime.spawn(send(http.clone(), timeout, request)));
            Box::pin(async move { sent.await.unwrap_or(Err(SendError::BrokeOff)) })
        }
    }

    fn client(&self) -> Result<OidcClient<EndpointNotSet, EndpointSet>, Failed> {
        let token = self.endpoints.token_endpoint.as_ref();
        let token = token.ok_or_else(|| other("its metadata names no token endpoint"))?;
        let token = for_secrets("token", token)?;
        let client = client(self.config)?.set_token_uri(TokenUrl::new(token.clone()).map_err(invalid)?);
        Ok(if by_body(&self.endpoints) {
            client.set_auth_type(AuthType::RequestBody)
        } else {
            client
        })
    }
}

type Answer =
    Result<StandardTokenResponse<IdTokenField, BasicTokenType>, RequestTokenError<SendError, BasicErrorResponse>>;

fn tokens(answer: Answer) -> Result<Tokens, Failed> {
    let issued = answer.map_err(|error| match error {
        RequestTokenError::ServerResponse(response) => match response.error() {
            BasicErrorResponseType::InvalidGrant => Failed::Grant(response.to_string()),
            _ => Failed::Other(format!("the token endpoint refused: {response}")),
        },
        RequestTokenError::Request(error) => Failed::Other(error.to_string()),
        // What could not be parsed may hold a token.
        RequestTokenError::Parse(..) => other("the token endpoint's answer cannot be read"),
        RequestTokenError::Other(error) => Failed::Other(error),
    })?;
    let secret = |text: &String| SecretString::from(text.clone());
    Ok(Tokens {
        access: secret(issued.access_token().secret()),
        id: issued.extra_fields().id_token.as_ref().map(secret),
        refresh: issued.refresh_token().map(|token| secret(token.secret())),
    })
}

/// The parameter that says for whom a token is (RFC 8707).
fn resource(config: &IssuerConfig) -> Option<(&String, &String)> {
    static NAME: LazyLock<String> = LazyLock::new(|| "resource".to_owned());
    Some((&NAME, config.facade.as_ref()?.resource.as_ref()?))
}

/// The URL of an endpoint, if secrets may be sent to it.
fn for_secrets<'a>(what: &str, url: &'a String) -> Result<&'a String, Failed> {
    if takes_secrets(url) {
        return Ok(url);
    }
    Err(Failed::Other(format!(
        "its {what} endpoint is asked by https only, except on this machine: {url}"
    )))
}

/// Whether the client's secret is sent in the body.
fn by_body(endpoints: &OidcEndpoints) -> bool {
    let methods = &endpoints.token_endpoint_auth_methods_supported;
    !methods.is_empty() && !methods.iter().any(|method| method == "client_secret_basic")
}

fn other(text: &str) -> Failed {
    Failed::Other(text.to_owned())
}

/// What an ID token must say besides what every token must: that it answers this sign-in, for this client. To be asked
/// only of a token whose issuer and time are verified, and whose signature is unless it came from the issuer itself.
pub(crate) fn answers_this_sign_in(id_token: &str, client_id: &str, nonce: &str) -> bool {
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
        .ok_or_else(|| other("no client_id is configured"))?;
    let client = OidcClient::new(ClientId::new(id));
    Ok(match secret(config)? {
        None => client,
        Some(secret) => client.set_client_secret(ClientSecret::new(secret.expose_secret().to_owned())),
    })
}

fn secret(config: &IssuerConfig) -> Result<Option<SecretString>, Failed> {
    let Some(variable) = &config.client_secret_env else {
        return Ok(None);
    };
    match std::env::var(variable) {
        Ok(secret) => Ok(Some(secret.into())),
        Err(_) => Err(Failed::Other(format!(
            "the environment variable {variable} holds no client secret"
        ))),
    }
}

fn invalid(error: url::ParseError) -> Failed {
    Failed::Other(format!("a URL of its metadata is none: {error}"))
}

async fn send(http: reqwest::Client, timeout: Duration, request: HttpRequest) -> Result<HttpResponse, SendError> {
    let mut request = reqwest::Request::try_from(request)?;
    *request.timeout_mut() = Some(timeout);
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
    #[error("the request broke off")]
    BrokeOff,
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
