//! The OIDC issuers whose tokens are taken.

use std::collections::BTreeSet;

use serde::Deserialize;

/// One OIDC issuer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// `iss` of its tokens, exactly.
    pub issuer: String,
    /// Where its metadata is; `{issuer}/.well-known/openid-configuration` if not given.
    #[serde(default)]
    pub discovery_url: Option<String>,
    /// `aud` of access tokens that are meant for Chandlery. At least one, if anybody is to call with a token of this issuer.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// For the pages' sign-in: the OAuth client registered for Chandlery, which is the audience of its ID tokens. Without it nobody signs
    /// in to pages with this issuer.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Environment variable that holds the client's secret, for a confidential client.
    #[serde(default)]
    pub client_secret_env: Option<String>,
    /// Scopes the sign-in asks for besides `openid`.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<String>,
    /// What people read on the sign-in page; the issuer if not given.
    #[serde(default)]
    pub display_name: Option<String>,
    /// The claim that lists groups.
    #[serde(default = "default_groups_claim")]
    pub groups_claim: String,
    /// The claim that lists roles, if `admin` in it is to make an admin.
    #[serde(default)]
    pub roles_claim: Option<String>,
    /// Who else is an admin.
    #[serde(default)]
    pub admins: AdminRules,
    /// The HTTP proxy through which the issuer is reached, as a URL. Whatever the environment says of proxies does not count: whoever
    /// could set it would give us keys of their own.
    #[serde(default)]
    pub proxy: Option<String>,
}

/// Who is an admin, besides those whose token says so.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminRules {
    /// Email addresses, compared without case; only of tokens whose `email_verified` is `true`.
    #[serde(default)]
    pub emails: BTreeSet<String>,
    /// Groups.
    #[serde(default)]
    pub groups: BTreeSet<String>,
}

/// What an issuer's metadata names (OpenID Connect Discovery 1.0, section 3).
#[derive(Clone, Debug, Deserialize)]
pub struct OidcEndpoints {
    /// Must be the configured issuer.
    pub issuer: String,
    /// Where its signing keys are.
    pub jwks_uri: String,
    /// Where people sign in.
    #[serde(default)]
    pub authorization_endpoint: Option<String>,
    /// Where a code becomes tokens.
    #[serde(default)]
    pub token_endpoint: Option<String>,
    /// How a confidential client shows its secret there; `client_secret_basic` if it does not say.
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// Whether answers to sign-ins say which issuer they are from (RFC 9207, section 3).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

impl IssuerConfig {
    /// Where its metadata is.
    pub fn metadata_url(&self) -> String {
        self.discovery_url
            .clone()
            .unwrap_or_else(|| format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/')))
    }
}

fn default_scopes() -> Vec<String> {
    vec!["profile".to_owned(), "email".to_owned()]
}

fn default_groups_claim() -> String {
    "groups".to_owned()
}
