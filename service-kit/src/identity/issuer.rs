//! The configuration of the OIDC issuers whose tokens are accepted.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// One OIDC issuer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// The exact value of `iss` in its tokens.
    pub issuer: String,
    /// The URL of its metadata; `{issuer}/.well-known/openid-configuration` by default.
    #[serde(default)]
    pub discovery_url: Option<String>,
    /// Values of `aud` of access tokens for Chandlery. Calls with a token of this issuer require at least one.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// Scopes that an access token must have (RFC 6749, section 3.3). MCP clients are told to request them.
    #[serde(default)]
    pub required_scopes: Vec<String>,
    /// For sign-in to the pages: the OAuth client registered for Chandlery, which is the audience of its ID tokens.
    /// Without it, nobody can sign in to the pages with this issuer.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Environment variable that holds the client's secret, for a confidential client.
    #[serde(default)]
    pub client_secret_env: Option<String>,
    /// Scopes that the sign-in requests in addition to `openid`.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<String>,
    /// Set for an issuer that MCP clients cannot use by themselves, since it accepts neither client metadata documents nor
    /// dynamic registration: gateway-svc stands in front of it as an authorization server.
    #[serde(default)]
    pub facade: Option<FacadeRules>,
    /// The name on the sign-in page; the issuer by default.
    #[serde(default)]
    pub display_name: Option<String>,
    /// The claim that lists groups.
    #[serde(default = "default_groups_claim")]
    pub groups_claim: String,
    /// The claim that lists roles. A token whose roles include `admin` makes its user an admin.
    #[serde(default)]
    pub roles_claim: Option<String>,
    /// Other users who are admins.
    #[serde(default)]
    pub admins: AdminRules,
    /// Which tokens programs got for themselves, rather than people.
    #[serde(default)]
    pub machines: MachineRules,
    /// The URL of the HTTP proxy through which the issuer is reached. Proxies that the environment names are ignored:
    /// whoever could set them could supply forged keys.
    #[serde(default)]
    pub proxy: Option<String>,
}

/// Which tokens are a program's own: those to which one of the rules applies. By default none.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineRules {
    /// All of them, as where a Kubernetes cluster or a CI system is the issuer.
    #[serde(default)]
    pub every_token: bool,
    /// Those whose `sub` is the client that got them, which `client_id` or `azp` names (RFC 9068, section 2.2).
    #[serde(default)]
    pub subject_is_client: bool,
    /// Those that have one of these claims with this value.
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
}

impl MachineRules {
    pub(super) fn apply(&self, subject: &str, claims: &serde_json::Map<String, serde_json::Value>) -> bool {
        let has = |name: &str, value: &str| match claims.get(name) {
            Some(serde_json::Value::String(text)) => text == value,
            Some(serde_json::Value::Bool(flag)) => value == if *flag { "true" } else { "false" },
            _ => false,
        };
        self.every_token
            || (self.subject_is_client && ["client_id", "azp"].into_iter().any(|name| has(name, subject)))
            || self.claims.iter().any(|(name, value)| has(name, value))
    }
}

/// How tokens for calls are requested from an issuer behind the facade.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FacadeRules {
    /// Scopes that are requested in addition to `openid`, and those of sign-ins and calls.
    #[serde(default = "default_facade_scopes")]
    pub scopes: Vec<String>,
    /// By what the issuer knows the audience of its access tokens (RFC 8707), if it must be told.
    #[serde(default)]
    pub resource: Option<String>,
    /// Further parameters of the authorization request: `audience` or `access_type`, for example.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
}

impl FacadeRules {
    /// Parameters of an authorization request that Chandlery sets itself.
    pub const RESERVED: [&str; 10] = [
        "client_id",
        "client_secret",
        "code_challenge",
        "code_challenge_method",
        "nonce",
        "redirect_uri",
        "resource",
        "response_type",
        "scope",
        "state",
    ];
}

/// Which users are admins, in addition to those with the role.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminRules {
    /// Email addresses, compared without case. They apply only to tokens whose `email_verified` is `true`.
    #[serde(default)]
    pub emails: BTreeSet<String>,
    /// Groups whose members are admins.
    #[serde(default)]
    pub groups: BTreeSet<String>,
}

/// The fields of an issuer's metadata (OpenID Connect Discovery 1.0, section 3).
#[derive(Clone, Debug, Deserialize)]
pub struct OidcEndpoints {
    /// Must equal the configured issuer.
    pub issuer: String,
    /// The URL of its signing keys.
    pub jwks_uri: String,
    /// The URL at which people sign in.
    #[serde(default)]
    pub authorization_endpoint: Option<String>,
    /// The URL that exchanges a code for tokens.
    #[serde(default)]
    pub token_endpoint: Option<String>,
    /// How a confidential client authenticates at the token endpoint; `client_secret_basic` if empty.
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// The URL that revokes tokens (RFC 7009).
    #[serde(default)]
    pub revocation_endpoint: Option<String>,
    /// Whether responses to sign-ins name their issuer (RFC 9207, section 3).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

impl IssuerConfig {
    /// Whether a token with these scopes has all that are required. A scope that is a URI, as Entra's are requested, may be in the token by
    /// its last segment alone, as Entra gives it.
    pub(super) fn is_satisfied_by(&self, scopes: &[String]) -> bool {
        self.required_scopes.iter().all(|required| {
            let short = required.contains("://").then(|| required.rsplit('/').next()).flatten();
            scopes
                .iter()
                .any(|scope| scope == required || Some(scope.as_str()) == short)
        })
    }

    /// The URL of its metadata.
    pub fn metadata_url(&self) -> String {
        self.discovery_url
            .clone()
            .unwrap_or_else(|| format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/')))
    }
}

fn default_scopes() -> Vec<String> {
    vec!["profile".to_owned(), "email".to_owned()]
}

/// Without it, most issuers give no refresh token (OpenID Connect Core 1.0, section 11).
fn default_facade_scopes() -> Vec<String> {
    vec!["offline_access".to_owned()]
}

fn default_groups_claim() -> String {
    "groups".to_owned()
}
