//! What is kept of an owner's secrets: one value for each owner.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    authorization::{
        grant::{Tokens, Unrevoked},
        registered::Registered,
    },
    destination::Agreed,
    replay::Answers,
    summary::StoredField,
};

/// The value of one owner, as stores keep it.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all values are records")]
pub(crate) enum Value {
    Record(Record),
    /// A tombstone: the owner was deleted. It stays until no change that was authorized before can still be in progress, since such a
    /// change would store secrets that nobody would ever erase. It is void where the registry is restored to a state from before the deletion.
    Erased {
        /// Microseconds since 1970.
        time: i64,
        /// Of its former grants.
        unrevoked: Vec<Unrevoked>,
    },
}

impl Value {
    /// The bytes of its secrets.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Erased { unrevoked, .. } => unrevoked.iter().map(Unrevoked::size).sum(),
            Self::Record(record) => record.size(),
        }
    }

    /// What is to be revoked.
    pub(crate) fn unrevoked(&self) -> &[Unrevoked] {
        match self {
            Self::Erased { unrevoked, .. } => unrevoked,
            Self::Record(record) => &record.tokens.unrevoked,
        }
    }

    /// The same, to change it.
    pub(crate) fn unrevoked_mut(&mut self) -> &mut Vec<Unrevoked> {
        match self {
            Self::Erased { unrevoked, .. } => unrevoked,
            Self::Record(record) => &mut record.tokens.unrevoked,
        }
    }

    /// A tombstone with nothing to revoke.
    #[cfg(test)]
    pub(crate) fn erased(time: i64) -> Self {
        Self::Erased {
            time,
            unrevoked: Vec::new(),
        }
    }
}

/// The secrets of an owner, with everything that decides about them. The default is an owner that never had secrets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// Counts the changes: puts, deletions, confirmations. Grows beyond what was reported where a backup was restored.
    pub(crate) generation: i64,
    /// Where the values may go; empty while there are none. See `registry_model::destination`.
    pub(crate) bound_destination: String,
    /// What the owner agreed to. `None`: unknown, since an earlier version bound the values, or nothing is bound.
    pub(crate) agreed: Option<Agreed>,
    /// By key.
    pub(crate) fields: BTreeMap<String, Field>,
    /// Answers to requests that may be retried.
    pub(crate) answers: Answers,
    /// Of an installation.
    pub(crate) tokens: Tokens,
    /// Of an entry: those that its installations use.
    pub(crate) clients: Vec<Registered>,
}

/// A secret.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) stored: StoredField,
    pub(crate) value: SecretString,
}

impl Record {
    /// The record after a change at `time` (microseconds since 1970): it keeps the former values and tokens or not, sets the values in
    /// `put`, and binds all of them.
    pub(crate) fn changed(
        &self,
        time: i64,
        keep: bool,
        put: &[(String, SecretString)],
        bound_destination: String,
        agreed: Option<Agreed>,
    ) -> Self {
        let generation = self.generation + 1;
        let former = if keep { self.clone() } else { self.bare() };
        let mut fields = former.fields;
        for (key, value) in put {
            let stored = StoredField {
                generation,
                update_time: time,
            };
            let value = value.clone();
            fields.insert(key.clone(), Field { stored, value });
        }
        Self {
            generation,
            bound_destination,
            agreed,
            fields,
            answers: self.answers.at(time),
            tokens: former.tokens,
            clients: former.clients,
        }
    }

    /// Without anything that is secret or that a secret came with.
    fn bare(&self) -> Self {
        Self {
            tokens: self.tokens.cleared(),
            ..Self::default()
        }
    }

    /// The bytes of its secrets.
    pub(crate) fn size(&self) -> usize {
        let fields = self.fields.values().map(|field| field.value.expose_secret().len());
        let clients = self.clients.iter().map(|one| one.client.authentication.size());
        fields.chain(clients).sum::<usize>() + self.tokens.size()
    }

    /// Whether there is anything to keep secret.
    pub(crate) fn has_secrets(&self) -> bool {
        !self.fields.is_empty()
            || !self.clients.is_empty()
            || self.tokens.grant.is_some()
            || !self.tokens.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::authorization::{
        grant::Grant,
        plan::Server,
        servers::{Authentication, Client},
    };

    #[test]
    fn every_secret_counts_for_the_size() {
        let client = |secret: &str| Client {
            id: "id".to_owned(),
            authentication: Authentication::Basic(secret.into()),
        };
        let grant = Grant {
            server: Server::Issuer("https://as.example.com".to_owned()),
            client_id: "id".to_owned(),
            authentication: Some(Authentication::Post("1".into())),
            resource: String::new(),
            scopes: Vec::new(),
            declined: Vec::new(),
            basis: [0; 32],
            access: "22".into(),
            expire_time: None,
            refresh: Some("333".into()),
            account: String::new(),
            connect_time: 0,
            refresh_time: 0,
        };
        let registered = Registered {
            issuer: String::new(),
            redirect_uri: String::new(),
            client: client("4444"),
            expire_time: None,
        };
        let stored = StoredField {
            generation: 1,
            update_time: 0,
        };
        let value = "55555".into();
        let tokens = Tokens {
            unrevoked: vec![grant.clone().unrevoked(client("666666"), 0)],
            grant: Some(grant),
            ..Tokens::default()
        };
        let record = Record {
            fields: BTreeMap::from([("key".to_owned(), Field { stored, value })]),
            clients: vec![registered],
            tokens: tokens.clone(),
            ..Record::default()
        };
        assert_eq!(Value::Record(record).size(), (1 + 2 + 3) + 4 + 5 + (2 + 3 + 6));
        let tombstone = Value::Erased {
            time: 0,
            unrevoked: tokens.unrevoked,
        };
        assert_eq!(tombstone.size(), 2 + 3 + 6);
    }
}
