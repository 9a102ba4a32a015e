//! What a client asks a person's browser to bring (RFC 6749, section 4.1.1; RFC 7636; RFC 8707).

use serde::{Deserialize, Serialize};
use service_kit::identity::IssuerConfig;
use url::form_urlencoded;

use super::{
    Code, Facade,
    client::{Client, NoClient},
    redirect,
};
use crate::domain::ConsumerRef;

/// The client keeps it, and a browser's cookie does during the sign-in.
const MAX_STATE: usize = 1_000;
/// The longest query that is read.
const MAX_QUERY: usize = 16 << 10;
/// How long a client may take to redeem a code.
const CODE_LASTS: u64 = 60;

/// A valid request for an authorization. Sealed in the consent form, and in a cookie during the sign-in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Authorization {
    /// The digest of the client's id.
    client: String,
    redirect_uri: String,
    challenge: String,
    state: Option<String>,
    /// `gateways/{gateway}` or `agents/{agent}`.
    endpoint: String,
}

/// What a person is asked to agree to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) authorization: Authorization,
    /// As the client calls itself.
    pub(crate) client: String,
    /// The host that vouches for the client's name, where one does.
    pub(crate) vouched_by: Option<String>,
    /// Who gets the authorization.
    pub(crate) destination: String,
    /// Which gateway or agent the client wants to call.
    pub(crate) endpoint: String,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Told to the person: the client, or where it may be answered, is not certain (RFC 6749, section 4.1.2.1).
    Here(String),
    /// Told to the client: the URL to send the browser to.
    There(String),
    /// Told to the person, who may then go on to the client. Anybody can register a web site, or a link that an editor opens, as a client:
    /// no link to here leads there before somebody has agreed to it (RFC 9700, section 4.11.2).
    Ask {
        /// What is wrong.
        why: &'static str,
        /// Who gets it, for the person who is asked.
        destination: String,
        /// The URL that tells the client.
        url: String,
    },
}

impl Facade {
    /// Checks the query of a request.
    pub(crate) async fn asked(&self, query: &str) -> Result<Asked, Refused> {
        let parameters = Parameters::parse(query).map_err(Refused::Here)?;
        let id = parameters
            .get("client_id")
            .ok_or_else(|| Refused::Here("The client did not say who it is (client_id).".to_owned()))?;
        let client = self
            .client(id)
            .await
            .map_err(|error: NoClient| Refused::Here(error.to_string()))?;
        let redirect_uri = parameters.get("redirect_uri").unwrap_or_default();
        if !client.has(redirect_uri) {
            let text = "The client asks to be answered at an address (redirect_uri) that is not one of its own.";
            return Err(Refused::Here(text.to_owned()));
        }
        let endpoint = parameters.check(self);
        let endpoint = endpoint.map_err(|(error, description)| {
            let state = parameters.get("state").filter(|state| is_state(state));
            let url = self.answer(
                redirect_uri,
                state,
                &[("error", error), ("error_description", description)],
            );
            if redirect::is_loopback_http(redirect_uri) {
                return Refused::There(url);
            }
            Refused::Ask {
                why: description,
                destination: redirect::destination(redirect_uri),
                url,
            }
        })?;
        Ok(parameters.asked(&client, redirect_uri, &endpoint))
    }

    /// Where the browser is sent after the identity provider has answered with a code.
    pub(crate) fn authorized(
        &self,
        authorization: &Authorization,
        issuer: &IssuerConfig,
        (code, verifier, nonce): (&str, &str, &str),
    ) -> String {
        let code = self.sealed.code(&Code {
            client: authorization.client.clone(),
            redirect_uri: authorization.redirect_uri.clone(),
            challenge: authorization.challenge.clone(),
            endpoint: authorization.endpoint.clone(),
            issuer: issuer.issuer.clone(),
            code: code.to_owned(),
            verifier: verifier.to_owned(),
            nonce: nonce.to_owned(),
            until: self.now() + CODE_LASTS,
        });
        let state = authorization.state.as_deref();
        self.answer(&authorization.redirect_uri, state, &[("code", &code)])
    }

    /// Where the browser is sent when the person, or the identity provider, refuses.
    pub(crate) fn denied(&self, authorization: &Authorization, error: &str) -> String {
        let state = authorization.state.as_deref();
        self.answer(&authorization.redirect_uri, state, &[("error", error)])
    }

    /// RFC 6749, section 4.1.2, and RFC 9207, section 2.
    fn answer(&self, redirect_uri: &str, state: Option<&str>, parameters: &[(&str, &str)]) -> String {
        let issuer = Self::identifier(&self.links);
        let mut parameters = parameters.to_vec();
        parameters.extend(state.map(|state| ("state", state)));
        parameters.push(("iss", &issuer));
        redirect::with(redirect_uri, &parameters)
    }
}

/// The parameters of a request, each of which may come once (RFC 6749, section 3.1).
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_QUERY {
            return Err("The request is too long.".to_owned());
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()).take(50) {
            if parameters.iter().any(|(known, _)| *known == *name) {
                return Err(format!("{} comes more than once.", name.escape_debug()));
            }
            // A parameter without a value is as if it were not there.
            if !value.is_empty() {
                parameters.push((name.into_owned(), value.into_owned()));
            }
        }
        Ok(Self(parameters))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The endpoint that a valid request is for; what is wrong with another, as `error` and `error_description`.
    fn check(&self, facade: &Facade) -> Result<ConsumerRef, (&'static str, &'static str)> {
        if self.get("response_type") != Some("code") {
            return Err(("unsupported_response_type", "response_type must be code"));
        }
        if self.get("state").is_some_and(|state| !is_state(state)) {
            return Err(("invalid_request", "state must be at most 1000 bytes of ASCII"));
        }
        let challenge = self.get("code_challenge").unwrap_or_default();
        if self.get("code_challenge_method") != Some("S256") || !is_challenge(challenge) {
            return Err((
                "invalid_request",
                "PKCE is required: code_challenge_method must be S256",
            ));
        }
        self.get("resource")
            .and_then(|resource| facade.links.endpoint(resource))
            .ok_or((
                "invalid_target",
                "resource must be the URL of an MCP endpoint, as its metadata gives it",
            ))
    }

    fn asked(&self, client: &Client, redirect_uri: &str, endpoint: &ConsumerRef) -> Asked {
        Asked {
            authorization: Authorization {
                client: client.digest.clone(),
                redirect_uri: redirect_uri.to_owned(),
                challenge: self.get("code_challenge").unwrap_or_default().to_owned(),
                state: self.get("state").map(str::to_owned),
                endpoint: endpoint.to_string(),
            },
            client: client.name.clone(),
            vouched_by: client.host.clone(),
            destination: redirect::destination(redirect_uri),
            endpoint: endpoint.slug.to_string(),
        }
    }
}

/// RFC 6749, appendix A.5.
fn is_state(text: &str) -> bool {
    text.len() <= MAX_STATE && text.bytes().all(|b| (b' '..=b'~').contains(&b))
}

/// The base64url of 32 bytes (RFC 7636, section 4.2).
fn is_challenge(text: &str) -> bool {
    text.len() == 43
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}
