//! What clients are given and bring back: sealed, so that they can neither read nor change it, each kind with a purpose of its own.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use service_kit::{identity::Use, keys::Ring};

use crate::{domain::ConsumerRef, seal::Sealer};

/// How an access token begins. Each kind begins in its own way, so that scanners recognize what was leaked.
pub(crate) const ACCESS_TOKEN: &str = "cha_";
const REFRESH_TOKEN: &str = "chr_";
const CODE: &str = "chc_";
const CLIENT: &str = "chi_";

/// Seals and opens. All replicas share the keys.
#[derive(Clone)]
pub(super) struct Sealed(Arc<Sealer>);

/// Opens access tokens.
#[derive(Clone)]
pub(crate) struct AccessTokens(Sealed);

/// A client as it has registered itself.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Registered {
    #[serde(rename = "n")]
    pub(super) name: String,
    #[serde(rename = "r")]
    pub(super) redirect_uris: Vec<String>,
}

/// An authorization code: that of the identity provider, and what it was asked for. The provider takes its code only once.
#[derive(Serialize, Deserialize)]
pub(crate) struct Code {
    /// The digest of the client's id.
    #[serde(rename = "c")]
    pub(crate) client: String,
    #[serde(rename = "u")]
    pub(crate) redirect_uri: String,
    /// Of the client (RFC 7636, section 4.2).
    #[serde(rename = "h")]
    pub(crate) challenge: String,
    /// `gateways/{gateway}` or `agents/{agent}`.
    #[serde(rename = "e")]
    pub(crate) endpoint: String,
    /// The identity provider, and what it was sent.
    #[serde(rename = "i")]
    pub(crate) issuer: String,
    #[serde(rename = "p")]
    pub(crate) code: String,
    #[serde(rename = "v")]
    pub(crate) verifier: String,
    #[serde(rename = "o")]
    pub(crate) nonce: String,
    /// In seconds since 1970.
    #[serde(rename = "t")]
    pub(crate) until: u64,
}

/// A refresh token of the identity provider, for one client and endpoint.
pub(super) struct RefreshToken {
    pub(super) bound: Bound,
    pub(super) issuer: String,
    pub(super) token: SecretString,
}

/// A token of the identity provider with which one client calls one endpoint.
pub(crate) struct AccessToken {
    bound: Bound,
    /// Whether it is the provider's ID token, which stands in where its access tokens are opaque.
    is_id_token: bool,
    issuer: String,
    token: SecretString,
}

/// Whose a token is, and for which endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bound {
    /// The digest of the client's id.
    #[serde(rename = "c")]
    pub(super) client: String,
    /// `gateways/{gateway}` or `agents/{agent}`.
    #[serde(rename = "e")]
    pub(super) endpoint: String,
    /// The digest of the code that began it: what stays the same when the provider's tokens change.
    #[serde(rename = "s")]
    pub(super) sign_in: String,
}

/// A token as it is sealed.
#[derive(Serialize, Deserialize)]
struct Plain<T> {
    #[serde(flatten)]
    bound: Bound,
    #[serde(rename = "d", default)]
    is_id_token: bool,
    #[serde(rename = "i")]
    issuer: String,
    #[serde(rename = "t")]
    token: T,
}

impl Sealed {
    pub(super) fn new(key: Ring) -> Self {
        Self(Arc::new(Sealer::new(key)))
    }

    pub(super) fn client(&self, client: &Registered) -> String {
        self.seal(CLIENT, client)
    }

    pub(super) fn open_client(&self, id: &str) -> Option<Registered> {
        self.open(CLIENT, id)
    }

    pub(super) fn code(&self, code: &Code) -> String {
        self.seal(CODE, code)
    }

    pub(super) fn open_code(&self, code: &str) -> Option<Code> {
        self.open(CODE, code)
    }

    pub(super) fn refresh_token(&self, token: &RefreshToken) -> String {
        let plain = Plain {
            bound: token.bound.clone(),
            is_id_token: false,
            issuer: token.issuer.clone(),
            token: token.token.expose_secret(),
        };
        self.seal(REFRESH_TOKEN, &plain)
    }

    pub(super) fn open_refresh_token(&self, token: &str) -> Option<RefreshToken> {
        let plain: Plain<String> = self.open(REFRESH_TOKEN, token)?;
        Some(RefreshToken {
            bound: plain.bound,
            issuer: plain.issuer,
            token: plain.token.into(),
        })
    }

    pub(super) fn access_token(&self, token: &AccessToken) -> String {
        let plain = Plain {
            bound: token.bound.clone(),
            is_id_token: token.is_id_token,
            issuer: token.issuer.clone(),
            token: token.token.expose_secret(),
        };
        self.seal(ACCESS_TOKEN, &plain)
    }

    pub(super) fn open_access_token(&self, token: &str) -> Option<AccessToken> {
        let plain: Plain<String> = self.open(ACCESS_TOKEN, token)?;
        Some(AccessToken {
            bound: plain.bound,
            is_id_token: plain.is_id_token,
            issuer: plain.issuer,
            token: plain.token.into(),
        })
    }

    fn seal(&self, kind: &str, value: &impl Serialize) -> String {
        format!("{kind}{}", self.0.seal(&purpose(kind), value))
    }

    fn open<T: DeserializeOwned>(&self, kind: &str, sealed: &str) -> Option<T> {
        self.0.open(&purpose(kind), sealed.strip_prefix(kind)?)
    }
}

impl AccessTokens {
    /// Opens what was sealed with these keys.
    pub(crate) fn new(key: Ring) -> Self {
        Self(Sealed::new(key))
    }

    /// An access token for an endpoint, with this token of the provider in it.
    #[cfg(test)]
    pub(crate) fn seal(&self, endpoint: &ConsumerRef, token: &str, is_id_token: bool) -> String {
        let bound = Bound {
            client: "digest".to_owned(),
            endpoint: endpoint.to_string(),
            sign_in: "digest".to_owned(),
        };
        let token = AccessToken::new(bound, String::new(), token.into(), is_id_token);
        self.0.access_token(&token)
    }

    /// What is in an access token of ours; `None` if it is none.
    pub(crate) fn open(&self, token: &str) -> Option<AccessToken> {
        self.0.open_access_token(token)
    }
}

impl AccessToken {
    pub(super) fn new(bound: Bound, issuer: String, token: SecretString, is_id_token: bool) -> Self {
        Self {
            bound,
            is_id_token,
            issuer,
            token,
        }
    }

    /// Whether it is for this endpoint.
    pub(crate) fn is_for(&self, endpoint: &ConsumerRef) -> bool {
        self.bound.endpoint == endpoint.to_string()
    }

    /// The provider's token.
    pub(crate) fn token(&self) -> &SecretString {
        &self.token
    }

    /// What the provider's token must be accepted for.
    pub(crate) fn shown_for(&self) -> Use {
        if self.is_id_token { Use::SignIn } else { Use::Call }
    }

    pub(super) fn bound(&self) -> &Bound {
        &self.bound
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }
}

impl std::fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessTokens").finish_non_exhaustive()
    }
}

fn purpose(kind: &str) -> String {
    format!("facade {kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kind_is_not_another() {
        let sealed = Sealed::new([1; 32].into());
        let bound = Bound {
            client: "digest".to_owned(),
            endpoint: "gateways/a".to_owned(),
            sign_in: "digest".to_owned(),
        };
        let refresh = sealed.refresh_token(&RefreshToken {
            bound: bound.clone(),
            issuer: "https://login.example.com".to_owned(),
            token: "provider's".into(),
        });
        assert!(!refresh.contains("provider"));
        let opened = sealed.open_refresh_token(&refresh).unwrap();
        assert_eq!((opened.bound, opened.token.expose_secret()), (bound, "provider's"));
        let renamed = refresh.replacen(REFRESH_TOKEN, ACCESS_TOKEN, 1);
        assert!(sealed.open_access_token(&refresh).is_none() && sealed.open_access_token(&renamed).is_none());
        assert!(sealed.open_code(&renamed).is_none());
        assert!(Sealed::new([2; 32].into()).open_refresh_token(&refresh).is_none());
    }
}
