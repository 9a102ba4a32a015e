//! A request to sign somebody in, and what they enter.

use serde::Deserialize;

/// What the client asks for (RFC 6749, section 4.1.1; RFC 7636; OpenID Connect Core, section 3.1.2.1).
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub(super) struct Request {
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    pub(super) response_type: String,
    pub(super) scope: String,
    pub(super) state: String,
    pub(super) nonce: String,
    pub(super) code_challenge: String,
    pub(super) code_challenge_method: String,
    pub(super) prompt: String,
    pub(super) login_hint: String,
}

/// What the form shows when it comes back.
#[derive(Debug, Default)]
pub(super) struct Entered {
    pub(super) email: String,
    pub(super) teams: String,
    pub(super) admin: bool,
    pub(super) email_error: Option<String>,
    pub(super) code_error: Option<String>,
}
