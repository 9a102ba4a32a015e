//! The desired state of a server, from the registry's watch.

use std::{collections::HashMap, sync::Arc};

use contracts::registry::{
    Condition, ConditionStatus, ConditionType, Entry, EntryRevision, Installation, SelfHostedServer,
};

use registry_model::{
    destination,
    install_fields::{has_stored_secrets, server_requires_secrets},
    tenancy,
};

use super::{cleanup::Deleted, compose::self_hosted};

/// The owner of a server with the objects that decide what runs.
#[derive(Clone, Debug)]
pub(crate) struct Desired {
    pub(crate) owner: Owner,
    /// What the installation runs, or the current one of the entry. `None` if the watch has not delivered it yet.
    pub(crate) revision: Option<Arc<EntryRevision>>,
    pub(crate) entry: EntryCredential,
}

/// The owner of a server.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    Installation(Arc<Installation>),
    /// An entry whose installations share the server, if its current revision says so.
    Entry(SharingEntry),
}

/// An entry whose installations may share a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharingEntry {
    pub(crate) uid: String,
    /// The number of its current revision.
    pub(crate) revision: i64,
    /// Whether an installation runs a revision that shares.
    pub(crate) in_use: bool,
    pub(crate) deleted: bool,
}

impl Desired {
    /// The server that should run for this owner. `None` if the entry has none, or has it for the other kind of owner.
    pub(super) fn server(&self) -> Option<&SelfHostedServer> {
        let server = self_hosted(self.revision.as_deref()?)?;
        let is_entry = matches!(self.owner, Owner::Entry(_));
        (tenancy::shares(server) == is_entry).then_some(server)
    }

    /// The uid by which the runtime knows the owner.
    pub(super) fn uid(&self) -> &str {
        match &self.owner {
            Owner::Installation(installation) => &installation.uid,
            Owner::Entry(entry) => &entry.uid,
        }
    }

    /// The generation that a report about this state names.
    pub(super) fn generation(&self) -> i64 {
        match &self.owner {
            Owner::Installation(installation) => installation.generation,
            Owner::Entry(entry) => entry.revision,
        }
    }

    /// What the installation's owner has entered; a shared server gets nothing of that.
    pub(super) fn values(&self) -> HashMap<String, String> {
        match &self.owner {
            Owner::Installation(installation) => installation.values.clone(),
            Owner::Entry(_) => HashMap::new(),
        }
    }

    pub(super) fn is_deleted(&self) -> bool {
        match &self.owner {
            Owner::Installation(installation) => installation.delete_time.is_some(),
            Owner::Entry(entry) => entry.deleted,
        }
    }

    /// What is cleaned up once the owner is deleted.
    pub(super) fn deleted(&self) -> Deleted {
        let uid = self.uid().to_owned();
        match &self.owner {
            Owner::Installation(_) => Deleted::Installation(uid),
            Owner::Entry(_) => Deleted::Entry(uid),
        }
    }

    /// Where the secrets go that the server gets when it starts; see `registry_model::destination`.
    pub(super) fn destination(&self, revision: &EntryRevision) -> Option<String> {
        match &self.owner {
            Owner::Installation(installation) => destination::of_installation(revision, installation),
            Owner::Entry(_) => destination::of(revision),
        }
    }
}

/// The state of the secrets stored on an entry, as credential-svc reported it. The default is an entry without any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryCredential {
    /// `None` if nothing was reported, because there is nothing to report.
    status: Option<ConditionStatus>,
    /// The entry revision that the report is about.
    observed: i64,
    generation: i64,
}

/// The state of all secrets that a server may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Whether the installation's own secrets are complete.
    pub(crate) own: ConditionStatus,
    /// Whether the secrets stored on the entry are complete.
    pub(crate) entry: ConditionStatus,
    /// The generations of the installation's own secrets and of those stored on the entry.
    pub(crate) generations: (i64, i64),
}

impl EntryCredential {
    pub(crate) fn of(entry: &Entry) -> Self {
        let ready = ready(&entry.conditions);
        Self {
            status: ready.map(Condition::status),
            observed: ready.map_or(0, |c| c.observed_generation),
            generation: entry.credential_generation,
        }
    }
}

impl Credentials {
    /// For a server without secrets.
    pub(crate) const NONE: Self = Self {
        own: ConditionStatus::True,
        entry: ConditionStatus::True,
        generations: (0, 0),
    };

    /// For the server of an owner that runs `revision`.
    pub(crate) fn of(desired: &Desired, revision: &EntryRevision) -> Self {
        if !server_requires_secrets(&revision.install_fields) {
            return Self::NONE;
        }
        let (own, generation, running) = match &desired.owner {
            Owner::Installation(installation) => (
                ready(&installation.conditions).map_or(ConditionStatus::Unknown, Condition::status),
                installation.credential_generation,
                installation.running_entry_revision,
            ),
            Owner::Entry(entry) => (ConditionStatus::True, 0, entry.revision),
        };
        let entry = Some(desired.entry).filter(|_| has_stored_secrets(&revision.install_fields));
        let status = entry
            // A report about another entry revision does not apply. credential-svc decides when the secrets are drawn.
            .filter(|entry| entry.observed == running)
            .and_then(|entry| entry.status);
        Self {
            own,
            entry: status.unwrap_or(ConditionStatus::True),
            generations: (generation, entry.map_or(0, |entry| entry.generation)),
        }
    }

    /// Whether credential-svc has not reported yet.
    pub(crate) fn are_undecided(&self) -> bool {
        let undecided = |status| matches!(status, ConditionStatus::Unknown | ConditionStatus::Unspecified);
        undecided(self.own) || undecided(self.entry)
    }
}

fn ready(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|c| c.r#type() == ConditionType::CredentialReady)
}

#[cfg(test)]
mod tests {
    use contracts::registry::{
        EnvironmentVariableTarget, InstallField, InstallFieldSource, InstallFieldType, install_field::Target,
    };
    use pretty_assertions::assert_eq;

    use super::*;

    fn reported(status: ConditionStatus, observed_generation: i64) -> Vec<Condition> {
        vec![Condition {
            r#type: ConditionType::CredentialReady.into(),
            status: status.into(),
            observed_generation,
            ..Condition::default()
        }]
    }

    fn credentials(conditions: Vec<Condition>, source: InstallFieldSource) -> Credentials {
        let revision = EntryRevision {
            install_fields: vec![InstallField {
                r#type: InstallFieldType::Secret.into(),
                source: source.into(),
                target: Some(Target::EnvironmentVariable(EnvironmentVariableTarget::default())),
                ..InstallField::default()
            }],
            ..EntryRevision::default()
        };
        let entry = Entry {
            conditions,
            credential_generation: 4,
            ..Entry::default()
        };
        let desired = Desired {
            owner: Owner::Installation(Arc::new(Installation {
                running_entry_revision: 2,
                conditions: reported(ConditionStatus::True, 1),
                credential_generation: 1,
                ..Installation::default()
            })),
            revision: None,
            entry: EntryCredential::of(&entry),
        };
        Credentials::of(&desired, &revision)
    }

    #[test]
    fn an_entrys_credential_concerns_those_that_get_some_of_it() {
        use ConditionStatus::{False, True, Unknown};
        let stored = |conditions| credentials(conditions, InstallFieldSource::Stored);
        assert_eq!(stored(reported(False, 2)).entry, False);
        assert_eq!(stored(Vec::new()).entry, True, "nothing was ever stored");
        assert_eq!(stored(reported(False, 1)).entry, True, "of another entry revision");
        assert!(stored(reported(Unknown, 2)).are_undecided());
        assert_ne!(stored(reported(True, 2)), Credentials::NONE);
        assert_eq!(stored(reported(True, 2)).generations, (1, 4));
        let prompted = credentials(reported(False, 2), InstallFieldSource::Prompted);
        assert_eq!((prompted.entry, prompted.generations), (True, (1, 0)));
    }
}
