//! Explains to people which credential a call would carry.

use crate::{
    domain::{ConditionState, CredentialKind, Running},
    sentence::as_sentence,
};

/// The credential of an installation, as far as its conditions and its entry revision say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExplainedCredential {
    /// Which model.
    pub(crate) kind: CredentialKind,
    /// Whether each caller has one of their own.
    pub(crate) per_caller: bool,
    /// Whether calls carry it.
    pub(crate) ready: bool,
    /// For people.
    pub(crate) detail: String,
}

impl ExplainedCredential {
    /// That of an installation.
    pub(super) fn of(running: &Running) -> Self {
        let revision = &running.revision;
        let what = match revision.credential {
            CredentialKind::None if revision.vends_headers => "Secrets that were entered, the same for all callers.",
            CredentialKind::None => "None: the server requires none.",
            CredentialKind::Static => "The secret that was entered, the same for all callers.",
            CredentialKind::OAuth => "A token of the account that is connected, the same for all callers.",
            CredentialKind::ClientCredentials => "A token for machines, the same for all callers.",
            CredentialKind::TokenExchange => "A token for the caller alone, which theirs is exchanged for.",
            CredentialKind::JwtPassthrough => "The caller's own token.",
        };
        let mut detail = what.to_owned();
        let lacking = std::iter::once(&running.installation.credential)
            .chain(running.entry_credential())
            .find(|condition| condition.status == ConditionState::False);
        if let Some(condition) = lacking {
            detail = format!("{detail} {}", as_sentence(&condition.message));
        }
        Self {
            kind: revision.credential,
            per_caller: revision.per_caller,
            ready: running.has_credentials(),
            detail: detail.trim_end().to_owned(),
        }
    }

    /// As a caller with a gateway token has it.
    #[must_use]
    pub(crate) fn without_jwt(mut self) -> Self {
        if self.per_caller {
            self.ready = false;
            self.detail
                .push_str(" You call with a gateway token, which it cannot be made from: call with a token of the identity provider.");
        }
        self
    }
}
