//! The token endpoint (RFC 6749, sections 4.1.3 and 6): exchanges codes and refresh tokens at the identity provider.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse as _, Response},
};
use data_encoding::BASE64URL_NOPAD;
use http::HeaderMap;
use secrecy::{ExposeSecret as _, SecretString};
use service_kit::{
    Peer, User,
    edge::KeepOpen,
    identity::{IssuerConfig, TokenError, Use},
    quota::Exceeded,
};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{
    Code, Facade,
    answer::{Issued, OAuthError},
    authorization::Parameters,
    client::digest,
    refreshes::Outcome,
    sealed::{AccessToken, Bound, RefreshToken},
};
use crate::oidc::{self, Failed, Provider, Purpose, Tokens};

const OTHER_CLIENT: &str = "it was given to another client";
const NO_ISSUER: &str = "the identity provider it came from is no longer configured; sign in again";

/// For how long an answer waits for the keys of the identity provider.
const VERIFICATION: Duration = Duration::from_secs(2);

pub(super) async fn token(
    State(facade): State<Arc<Facade>>,
    peer: Option<Extension<Peer>>,
    keep_open: Option<Extension<KeepOpen>>,
    headers: HeaderMap,
    form: String,
) -> Response {
    // What the identity provider answers is lost with the connection if the process ends: nothing is stored, and another process that is shown
    // the same code or refresh token would show it to the provider again.
    let _held = keep_open.as_ref().map(|Extension(connection)| connection.hold());
    let peer = peer.map(|Extension(peer)| peer);
    match facade.grant(peer, &headers, &form).await {
        Ok(issued) => issued.response(facade.clock.now()),
        Err(error) => error.into_response(),
    }
}

impl Facade {
    async fn grant(self: &Arc<Self>, peer: Option<Peer>, headers: &HeaderMap, form: &str) -> Outcome {
        let form = Parameters::parse(form).map_err(|why| OAuthError::bad("invalid_request", why));
        let given = form.and_then(|form| Ok((self.given(&form)?, form)));
        let sign_in = given.as_ref().ok().map(|(given, _)| given.sign_in());
        self.charge(sign_in.as_deref(), peer, headers)?;
        let (given, form) = given?;
        let client = digest(required(&form, "client_id")?);
        match given {
            Given::Code(code) => {
                if code.client != client {
                    return Err(OAuthError::grant(OTHER_CLIENT));
                }
                if form.get("redirect_uri").is_some_and(|uri| uri != code.redirect_uri) {
                    return Err(OAuthError::grant(
                        "redirect_uri is not that of the authorization request",
                    ));
                }
                if !answers(required(&form, "code_verifier")?, &code.challenge) {
                    return Err(OAuthError::grant(
                        "code_verifier does not match the code_challenge (PKCE)",
                    ));
                }
                self.is_for(form.get("resource"), &code.endpoint)?;
                self.redeem(code).await.map(Arc::new)
            }
            Given::Refresh(token) => {
                if token.bound.client != client {
                    return Err(OAuthError::grant(OTHER_CLIENT));
                }
                self.is_for(form.get("resource"), &token.bound.endpoint)?;
                let refresh = || Arc::clone(self).refresh(token);
                self.refreshes.join(required(&form, "refresh_token")?, refresh).await
            }
        }
    }

    /// What a client gives for tokens, opened.
    fn given(&self, form: &Parameters) -> Result<Given, OAuthError> {
        match required(form, "grant_type")? {
            "authorization_code" => {
                let code = self.sealed.open_code(required(form, "code")?);
                let code = code.filter(|code| self.now() < code.until);
                code.map(Given::Code)
                    .ok_or_else(|| OAuthError::grant("the code is not one, or is older than a minute"))
            }
            "refresh_token" => {
                let token = self.sealed.open_refresh_token(required(form, "refresh_token")?);
                token
                    .map(Given::Refresh)
                    .ok_or_else(|| OAuthError::grant("the refresh token is not one, or no longer"))
            }
            _ => {
                let text = "grant_type must be authorization_code or refresh_token";
                Err(OAuthError::bad("unsupported_grant_type", text))
            }
        }
    }

    /// Counts a request. What opens belongs to a sign-in, and is counted for that: whoever shares an address with others could else keep them from
    /// their tokens. What does not open may be anything, and is counted for the address.
    pub(super) fn charge(
        &self,
        sign_in: Option<&str>,
        peer: Option<Peer>,
        headers: &HeaderMap,
    ) -> Result<(), Exceeded> {
        match sign_in {
            Some(sign_in) => self.quotas.grant(&sign_in.into()),
            None => self.quotas.sign_in(peer, headers),
        }
    }

    /// A token is for the endpoint that the person was asked about (RFC 8707, section 2.2).
    fn is_for(&self, resource: Option<&str>, endpoint: &str) -> Result<(), OAuthError> {
        let asked = resource.map(|resource| self.links.endpoint(resource));
        if asked.is_some_and(|asked| asked.map(|asked| asked.to_string()).as_deref() != Some(endpoint)) {
            return Err(OAuthError::bad(
                "invalid_target",
                "resource is not the MCP endpoint that was authorized",
            ));
        }
        Ok(())
    }

    async fn redeem(&self, code: Code) -> Result<Issued, OAuthError> {
        let sign_in = digest(&code.code);
        let (provider, _place) = self.provider(&code.issuer).await?;
        let issuer = provider.config;
        let rules = issuer.facade.as_ref().ok_or_else(|| OAuthError::grant(NO_ISSUER))?;
        let (callback, purpose) = (self.callback(), Purpose::Facade(rules));
        let tokens = provider.exchange(&callback, code.code, code.verifier, purpose).await;
        let tokens = tokens.map_err(|error| refused(issuer, &error))?;
        // The provider's word that its answer is to this sign-in.
        let client_id = issuer.client_id.as_deref().unwrap_or_default();
        let id_token = tokens.id.as_ref().map(|token| token.expose_secret());
        if !id_token.is_some_and(|token| oidc::answers_this_sign_in(token, client_id, &code.nonce)) {
            return Err(unusable(issuer, "it gave no ID token for this sign-in"));
        }
        let bound = Bound {
            client: code.client,
            endpoint: code.endpoint,
            sign_in,
        };
        self.issue(bound, issuer, tokens).await
    }

    async fn refresh(self: Arc<Self>, token: RefreshToken) -> Outcome {
        let (provider, _place) = self.provider(&token.issuer).await?;
        let issuer = provider.config;
        let tokens = provider.refresh(&token.token).await;
        let tokens = tokens.map_err(|error| refused(issuer, &error))?;
        self.issue(token.bound, issuer, tokens).await.map(Arc::new)
    }

    /// What the client gets: the provider's tokens, sealed.
    async fn issue(&self, bound: Bound, issuer: &IssuerConfig, tokens: Tokens) -> Result<Issued, OAuthError> {
        if let Some(id_token) = &tokens.id {
            let user = self.user(Use::SignIn, id_token).await;
            let user = user.map_err(|error| unusable(issuer, error))?;
            if user.issuer != issuer.issuer {
                return Err(unusable(issuer, "its ID token is another issuer's"));
            }
        }
        let (token, user, is_id_token) = self.for_calls(issuer, &tokens).await?;
        if user.issuer != issuer.issuer {
            return Err(unusable(issuer, "its access token is another issuer's"));
        }
        let refresh = tokens.refresh.map(|token| RefreshToken {
            bound: bound.clone(),
            issuer: issuer.issuer.clone(),
            token,
        });
        tracing::info!(
            user.id = %user.id, oidc.issuer = %issuer.issuer, endpoint = %bound.endpoint, "an MCP client was given a token"
        );
        let access = AccessToken::new(bound, issuer.issuer.clone(), token, is_id_token);
        let scopes = &issuer.required_scopes;
        Ok(Issued {
            access: self.sealed.access_token(&access).into(),
            refresh: refresh.map(|token| self.sealed.refresh_token(&token).into()),
            scope: (!scopes.is_empty()).then(|| scopes.join(" ")),
            expires_at: user.expires_at,
        })
    }

    /// The provider's token that the services accept: its access token, or its ID token where that is opaque.
    async fn for_calls(
        &self,
        issuer: &IssuerConfig,
        tokens: &Tokens,
    ) -> Result<(SecretString, Arc<User>, bool), OAuthError> {
        match self.user(Use::Call, &tokens.access).await {
            Ok(user) => Ok((tokens.access.clone(), user, false)),
            Err(TokenError::Malformed) => {
                let id_token = tokens.id.as_ref();
                let id_token = id_token
                    .ok_or_else(|| OAuthError::grant("the identity provider gave no new ID token; sign in again"))?;
                let user = self.user(Use::SignIn, id_token).await;
                let user = user.map_err(|error| unusable(issuer, error))?;
                Ok((id_token.clone(), user, true))
            }
            Err(error) => {
                let hint = "see `facade` in its configuration: scopes, resource and parameters decide for whom its access tokens are";
                Err(unusable(
                    issuer,
                    format!("its access token is refused: {error}; {hint}"),
                ))
            }
        }
    }

    /// The user of a token that the provider has just issued. While its keys are unavailable, the client gets the token all the same: each call
    /// verifies what it comes with, and the provider takes the client's former refresh token no more.
    async fn user(&self, shown_for: Use, token: &SecretString) -> Result<Arc<User>, TokenError> {
        let token = token.expose_secret();
        match timeout(VERIFICATION, self.verifier.verify_for(shown_for, token)).await {
            Ok(Err(TokenError::IssuerUnreachable)) | Err(_) => {
                self.verifier.read_issued(shown_for, token).map(Arc::new)
            }
            Ok(verified) => verified,
        }
    }

    /// The identity provider of what was opened, and a place among the requests to it.
    pub(super) async fn provider(&self, issuer: &str) -> Result<(Provider<'_>, OwnedSemaphorePermit), OAuthError> {
        let issuer = self.issuers().find(|known| known.issuer == issuer);
        let issuer = issuer.ok_or_else(|| OAuthError::grant(NO_ISSUER))?;
        let provider = Provider::reach(&self.verifier, issuer, &self.runtime).await;
        let provider =
            provider.ok_or_else(|| OAuthError::unavailable("the identity provider cannot be reached; retry"))?;
        // What is not sent is not lost: the next process sends it.
        if self.refreshes.are_ending() {
            return Err(OAuthError::unavailable("Chandlery is being stopped; retry"));
        }
        Ok((provider, self.place(issuer)?))
    }

    pub(super) fn place(&self, issuer: &IssuerConfig) -> Result<OwnedSemaphorePermit, OAuthError> {
        let places = self.places.of(&issuer.issuer.as_str().into());
        let place = places.try_acquire_owned();
        place.map_err(|_| OAuthError::unavailable("too many requests to the identity provider are in progress; retry"))
    }
}

/// What a client gives for tokens.
enum Given {
    Code(Code),
    Refresh(RefreshToken),
}

impl Given {
    /// As in [`Bound::sign_in`].
    fn sign_in(&self) -> String {
        match self {
            Self::Code(code) => digest(&code.code),
            Self::Refresh(token) => token.bound.sign_in.clone(),
        }
    }
}

fn required<'a>(form: &'a Parameters, name: &str) -> Result<&'a str, OAuthError> {
    let missing = || OAuthError::bad("invalid_request", format!("{name} is required"));
    form.get(name).ok_or_else(missing)
}

/// RFC 7636, section 4.6.
fn answers(verifier: &str, challenge: &str) -> bool {
    let digest = BASE64URL_NOPAD.encode(&Sha256::digest(verifier.as_bytes()));
    (43..=128).contains(&verifier.len()) && digest.as_bytes().ct_eq(challenge.as_bytes()).into()
}

fn refused(issuer: &IssuerConfig, error: &Failed) -> OAuthError {
    match error {
        Failed::Grant(_) => {
            tracing::info!(oidc.issuer = %issuer.issuer, error = %error, "an identity provider refused a grant");
            OAuthError::grant("the identity provider no longer accepts it; sign in again")
        }
        Failed::Other(_) => {
            tracing::error!(oidc.issuer = %issuer.issuer, error = %error, "an identity provider gave no tokens");
            OAuthError::unavailable("the identity provider gave no tokens; retry")
        }
    }
}

/// What the provider gave is of no use, which its or our configuration must change.
fn unusable(issuer: &IssuerConfig, why: impl std::fmt::Display) -> OAuthError {
    tracing::error!(oidc.issuer = %issuer.issuer, error = %why, "the tokens of an identity provider cannot be used");
    OAuthError::server(
        "the tokens of the identity provider cannot be used; the people who run Chandlery find the cause in its log",
    )
}
