//! The parameters of a sign-in request, and what the person enters.

use serde::Deserialize;

/// The parameters of the client (RFC 6749, section 4.1.1; RFC 7636; OpenID Connect Core, section 3.1.2.1).
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

/// The values and errors that the form shows after a failed attempt.
#[derive(Debug, Default)]
pub(super) struct Entered {
    pub(super) email: String,
    pub(super) groups: String,
    pub(super) admin: bool,
    pub(super) email_error: Option<String>,
    pub(super) code_error: Option<String>,
}
