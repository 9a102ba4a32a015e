//! Explains to people which credential a call would carry.

use crate::{
    domain::{Caller, ConditionState, CredentialKind, RequiredToken, Running},
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
    /// That of an installation, for this caller.
    pub(super) fn of(running: &Running, caller: &Caller) -> Self {
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
        let required = revision.required_token.as_ref();
        let wrong_token = required.and_then(|required| wrong_token(required, caller));
        if let Some(why) = &wrong_token {
            detail = format!("{detail} {why}");
        }
        Self {
            kind: revision.credential,
            per_caller: revision.per_caller,
            ready: running.has_credentials() && wrong_token.is_none(),
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

/// Why there is no credential for the caller's token, as far as that is known. credential-svc decides so, in `authorization/exchange.rs`.
fn wrong_token(required: &RequiredToken, caller: &Caller) -> Option<String> {
    let is_id_token = caller.token.as_ref().is_some_and(|token| token.is_id_token);
    if required.is_access_token && is_id_token {
        return Some(
            "The caller's token is an ID token, and an access token is required: an operator can have the identity provider give access tokens that are JWTs, by `facade` in its configuration."
                .to_owned(),
        );
    }
    if let (Some(issuer), Some(user)) = (&required.issuer, caller.user())
        && *user.issuer != **issuer
    {
        return Some(format!(
            "A token of {issuer} is required, and the caller's is of {}: sign in there.",
            user.issuer
        ));
    }
    let (accepted, audiences) = (required.audiences.as_ref()?, &caller.token.as_ref()?.user.audiences);
    let fits = audiences
        .iter()
        .any(|audience| accepted.iter().any(|known| **known == **audience));
    (!fits).then(|| {
        format!(
            "A token for {} is required, and the caller's is for {}: an admin of the identity provider can add the audience.",
            accepted.join(" or "),
            audiences.join(" and ")
        )
    })
}
