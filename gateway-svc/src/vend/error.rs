//! Why nothing was vended, and what the caller of a tool learns of it.

use std::{sync::Arc, time::Duration};

use contracts::credential::ErrorReason;
use service_kit::status::reason_of;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::domain::{CallError, ConsumerRef, CredentialFault, CredentialKind, Links, Repair, RepairReason, Running};

/// How much of a list of scopes is shown.
const SHOWN: usize = 300;
/// The `condition_reason` of an expired credential that connecting an account does not repair.
const SERVER_REFUSES: &str = "AUTHORIZATION_SERVER_REFUSED";

/// Why there are no headers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VendError {
    /// A required secret or account is not there.
    #[error("a required credential has not been entered")]
    Required,
    /// The upstream or the authorization server refuses the stored secret.
    #[error(
        "the credential is not accepted: whoever entered it, or an admin for a credential of the entry, must check it"
    )]
    Expired,
    /// The authorization server cannot be used, or refuses the client.
    #[error("its authorization server issues no token: an admin must check the client, its secret and that server")]
    ServerRefuses,
    /// The entry points elsewhere, or something else runs, than when the secret was entered.
    #[error("where the credential would go has changed since it was entered; its owner must confirm that")]
    DestinationChanged,
    /// The upstream demands scopes that the credential does not have.
    #[error("the server demands scopes that the credential does not have: {}", shown(.0))]
    ScopesRequired(Arc<str>),
    /// The caller has no JWT; or, if `given`, one of another issuer or audience than the entry requires.
    #[error("its credential is made from the sign-in of the person who calls")]
    CallerTokenRequired {
        /// Whether they have one.
        given: bool,
    },
    /// The authorization server does not exchange the caller's JWT.
    #[error(
        "its authorization server does not accept the sign-in of the person who calls; the people who run that server can give access"
    )]
    CallerTokenRefused,
    /// The authorization server does not answer.
    #[error("its authorization server does not answer")]
    AuthorizationServerUnavailable,
    /// The authorization server asks for a pause of this length.
    #[error("its authorization server asks for a pause of {} s", .0.as_secs())]
    AuthorizationServerPauses(Duration),
    /// Many other callers of the installation wait for theirs.
    #[error("its authorization server answers slowly, and many calls wait for it")]
    Busy,
    /// credential-svc did not answer.
    #[error("credentials are unavailable")]
    Unavailable,
    /// credential-svc says that the credential is one caller's own and the entry does not, or the other way round.
    #[error("whose the credential is cannot be determined")]
    Inconsistent,
}

impl VendError {
    /// What credential-svc said. `given`: it was sent the caller's JWT.
    pub(super) fn of(status: &Status, running: &Running, given: bool) -> Self {
        match (status.code(), reason_of(status, ErrorReason::from_str_name)) {
            (Code::FailedPrecondition, Some(ErrorReason::CredentialRequired)) | (Code::NotFound, _) => Self::Required,
            (Code::FailedPrecondition, Some(ErrorReason::CredentialExpired)) => {
                let info = status.get_details_error_info();
                match info.and_then(|mut info| info.metadata.remove("condition_reason")) {
                    Some(reason) if reason == SERVER_REFUSES => Self::ServerRefuses,
                    _ => Self::Expired,
                }
            }
            (Code::FailedPrecondition, Some(ErrorReason::DestinationChanged)) => Self::DestinationChanged,
            (Code::FailedPrecondition, Some(ErrorReason::ScopeRequired)) => {
                let info = status.get_details_error_info();
                let scopes = info.and_then(|mut info| info.metadata.remove("scopes"));
                Self::ScopesRequired(scopes.unwrap_or_default().into())
            }
            (Code::FailedPrecondition, Some(ErrorReason::CallerTokenRequired)) => Self::CallerTokenRequired { given },
            (Code::FailedPrecondition, Some(ErrorReason::CallerTokenRefused)) => Self::CallerTokenRefused,
            (Code::Unavailable, Some(ErrorReason::AuthorizationServerUnavailable)) => {
                let pause = status.get_details_retry_info().and_then(|info| info.retry_delay);
                pause.map_or(Self::AuthorizationServerUnavailable, Self::AuthorizationServerPauses)
            }
            (Code::Unavailable, Some(ErrorReason::AuthorizationServerBusy)) => Self::Busy,
            (code, _) => {
                tracing::error!(installation.uid = %running.installation.uid, grpc.code = ?code, error = %status.message(), "credential-svc vended nothing");
                Self::Unavailable
            }
        }
    }

    /// As the caller learns it.
    pub(crate) fn into_call_error(self, running: &Running, consumer: &ConsumerRef, links: &Links) -> CallError {
        let entry = &running.entry;
        let name = &entry.display_name;
        let kind = running.revision.credential;
        let without_link = |fault, message| CallError::Credential {
            entry: Arc::clone(&entry.slug),
            fault,
            message,
            again: None,
        };
        let (reason, message) = match self {
            Self::Unavailable => return CallError::CredentialsUnavailable,
            Self::Inconsistent => return CallError::Internal,
            Self::AuthorizationServerUnavailable => {
                let message = format!(
                    "The authorization server of {name} does not answer, so there is no token for this call. Neither {name} nor Chandlery is at fault. Try again in a moment."
                );
                return without_link(CredentialFault::AuthorizationServerUnavailable, message);
            }
            Self::AuthorizationServerPauses(again) => {
                let seconds = again.as_secs();
                let message = format!(
                    "The authorization server of {name} asks for a pause: it limits requests, or is busy. So there is no token for this call. Try again in {seconds} s."
                );
                return CallError::Credential {
                    entry: Arc::clone(&entry.slug),
                    fault: CredentialFault::AuthorizationServerUnavailable,
                    message,
                    again: Some(again),
                };
            }
            Self::Busy => {
                let message = format!(
                    "The authorization server of {name} answers slowly, and many calls wait for it already, so there is no token for this call. Try again in a moment."
                );
                return without_link(CredentialFault::AuthorizationServerUnavailable, message);
            }
            Self::CallerTokenRequired { given } => {
                let message = if given {
                    format!(
                        "{name} requires another token than the one you called with: of another identity provider, for another audience, or an access token in place of an ID token. An admin finds in its entry which."
                    )
                } else {
                    format!(
                        "{name} is called with your own sign-in: connect your client with a token of the organization's identity provider in place of a gateway token, then try again."
                    )
                };
                return without_link(CredentialFault::CallerTokenRequired, message);
            }
            Self::CallerTokenRefused => {
                let message = format!(
                    "The authorization server of {name} gives no token for you. Ask the people who run it, or an admin, for access; then try again."
                );
                return without_link(CredentialFault::CallerTokenRefused, message);
            }
            // There is nothing that anybody could enter.
            Self::Expired if kind == CredentialKind::JwtPassthrough => {
                let message = format!(
                    "The server of {name} does not accept your sign-in (HTTP 401). Sign in again and retry; if it persists, ask an admin for access."
                );
                return without_link(CredentialFault::CallerTokenRefused, message);
            }
            Self::Required => (
                RepairReason::CredentialRequired,
                match kind {
                    CredentialKind::OAuth => {
                        format!("{name} is not connected to an account. Open the link to connect one, then try again.")
                    }
                    _ => format!("{name} lacks a credential. Open the link to enter it, then try again."),
                },
            ),
            Self::ServerRefuses if kind == CredentialKind::OAuth => (
                RepairReason::CredentialExpired,
                format!(
                    "The authorization server of {name} issues no token. Connecting the account again does not change that: an admin, or whoever entered the secret of the client, must check the client, its secret and that server; the link shows the reason."
                ),
            ),
            Self::Expired | Self::ServerRefuses => (
                RepairReason::CredentialExpired,
                match kind {
                    CredentialKind::OAuth => format!(
                        "{name} no longer accepts the account that is connected. Open the link to connect again, then try again."
                    ),
                    CredentialKind::ClientCredentials | CredentialKind::TokenExchange => format!(
                        "The authorization server of {name} issues no token for its client, or {name} does not accept the token. An admin must check the client, its secret and what the entry asks for; the link shows the reason."
                    ),
                    _ => format!(
                        "{name} no longer accepts the stored credential. Open the link to enter a new one, then try again."
                    ),
                },
            ),
            Self::DestinationChanged => (
                RepairReason::DestinationChanged,
                format!(
                    "{name} has changed since its credential was entered, and that would now go elsewhere or to other code. Its owner (for a credential of the entry, an admin) must open the link, see what has changed and confirm it. Try again after that."
                ),
            ),
            Self::ScopesRequired(scopes) => (
                RepairReason::ScopeRequired,
                scopes_required(name, kind, &shown(&scopes)),
            ),
        };
        Repair {
            reason,
            entry: Arc::clone(&entry.slug),
            display_name: Arc::clone(name),
            message,
            install_url: links.install(&entry.slug, Some(consumer)),
        }
        .into()
    }
}

fn scopes_required(name: &str, kind: CredentialKind, scopes: &str) -> String {
    let then = match kind {
        CredentialKind::OAuth => "Open the link to connect again and allow them, then try again.",
        CredentialKind::None | CredentialKind::Static => {
            "Open the link to enter a credential that has them, then try again."
        }
        CredentialKind::ClientCredentials | CredentialKind::TokenExchange | CredentialKind::JwtPassthrough => {
            "An admin must have them granted at the authorization server."
        }
    };
    format!("{name} demands scopes for this call that its credential does not have: {scopes}. {then}")
}

/// Scopes as people see them. They come from the upstream.
fn shown(scopes: &str) -> String {
    if scopes.is_empty() {
        return "it does not say which".to_owned();
    }
    let mut shown: String = scopes.chars().take(SHOWN).collect();
    if shown.len() < scopes.len() {
        shown.push('…');
    }
    shown
}
