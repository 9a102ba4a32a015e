//! The account that an installation is connected to.

use contracts::{
    credential::{Connection, Credential},
    registry::{Entry, Installation, entry::CredentialModel, installation::Scope},
};

/// What the opener may know of it, and do about it.
#[derive(Debug)]
pub(in crate::pages) struct Account<'a> {
    /// Whether a person connects it; else it is a token for machines.
    pub(in crate::pages) by_person: bool,
    pub(in crate::pages) connection: Option<&'a Connection>,
    /// Whether the opener must first enter something, or agree to something.
    pub(in crate::pages) incomplete: bool,
    /// Whether the opener may connect and disconnect.
    pub(in crate::pages) may_connect: bool,
}

/// Whether a person connects installations of the entry to an account.
pub(in crate::pages) fn connects(entry: &Entry) -> bool {
    matches!(entry.credential_model, Some(CredentialModel::Oauth(_)))
}

/// Whether installations of the entry have an account, or a token for machines.
pub(in crate::pages) fn has_account(entry: &Entry) -> bool {
    matches!(
        entry.credential_model,
        Some(CredentialModel::Oauth(_) | CredentialModel::ClientCredentials(_))
    )
}

/// The account of an installation that `me`, `users/{user}`, looks at; `None` where there can be none.
pub(in crate::pages) fn account<'a>(
    entry: &Entry,
    installation: &Installation,
    credential: &'a Credential,
    me: &str,
) -> Option<Account<'a>> {
    let connection = credential.connection.as_ref();
    let by_person = connects(entry);
    let moved =
        !credential.bound_destination.is_empty() && credential.bound_destination != credential.present_destination;
    let somebody_elses = matches!(&installation.scope, Some(Scope::User(owner)) if owner != me);
    (has_account(entry) && (by_person || connection.is_some())).then_some(Account {
        by_person,
        connection,
        incomplete: moved || !credential.missing_fields.is_empty(),
        may_connect: by_person && !somebody_elses,
    })
}

#[cfg(test)]
mod tests {
    use contracts::registry::{ClientCredentialsCredential, OAuthCredential, StaticCredential};

    use super::*;

    #[test]
    fn only_who_may_entrust_their_account_is_offered_to() {
        let entry = |model| Entry {
            credential_model: Some(model),
            ..Entry::default()
        };
        let of = |scope| Installation {
            scope: Some(scope),
            ..Installation::default()
        };
        let oauth = entry(CredentialModel::Oauth(OAuthCredential::default()));
        let machine = entry(CredentialModel::ClientCredentials(
            ClientCredentialsCredential::default(),
        ));
        let fixed = entry(CredentialModel::StaticCredential(StaticCredential::default()));
        let (none, some) = (
            Credential::default(),
            Credential {
                connection: Some(Connection::default()),
                ..Credential::default()
            },
        );
        let (mine, theirs, team) = (
            of(Scope::User("users/me".to_owned())),
            of(Scope::User("users/other".to_owned())),
            of(Scope::Team("teams/core".to_owned())),
        );
        let may = |entry, installation, credential| {
            account(entry, installation, credential, "users/me").map(|account| account.may_connect)
        };
        assert_eq!(may(&oauth, &mine, &none), Some(true));
        assert_eq!(may(&oauth, &team, &some), Some(true));
        assert_eq!(may(&oauth, &theirs, &some), Some(false));
        assert_eq!(may(&machine, &mine, &some), Some(false));
        assert_eq!(may(&machine, &mine, &none), None);
        assert_eq!(may(&fixed, &mine, &none), None);
    }
}
