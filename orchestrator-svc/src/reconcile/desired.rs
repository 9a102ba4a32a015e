//! What should run for an installation, as the registry tells it.

use std::sync::Arc;

use contracts::registry::{Condition, ConditionStatus, ConditionType, Entry, EntryRevision, Installation};

use registry_model::install_fields::has_stored_secrets;

/// An installation with what it runs.
#[derive(Clone, Debug)]
pub(crate) struct Desired {
    pub(crate) installation: Arc<Installation>,
    /// `None`: the registry has not told of it yet.
    pub(crate) revision: Option<Arc<EntryRevision>>,
    pub(crate) entry: EntryCredential,
}

/// The secrets stored on an entry, as credential-svc reported them. The default is an entry without any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryCredential {
    /// `None`: nothing was reported, since there is nothing to report.
    status: Option<ConditionStatus>,
    /// The entry revision that was looked at.
    observed: i64,
    generation: i64,
}

/// All that is known of the secrets a server may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Whether the installation's own are there.
    pub(crate) own: ConditionStatus,
    /// Whether those stored on the entry are there.
    pub(crate) entry: ConditionStatus,
    /// Of the own ones, and of those stored on the entry.
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
    /// Where a server gets no secrets, none of this matters.
    pub(crate) const NONE: Self = Self {
        own: ConditionStatus::True,
        entry: ConditionStatus::True,
        generations: (0, 0),
    };

    /// Those of an installation that runs `revision`.
    pub(crate) fn of(desired: &Desired, revision: &EntryRevision) -> Self {
        let installation = &desired.installation;
        let entry = Some(desired.entry).filter(|_| has_stored_secrets(&revision.install_fields));
        let status = entry
            // What was reported of another entry revision says nothing of this one: credential-svc does, when it is asked.
            .filter(|entry| entry.observed == installation.running_entry_revision)
            .and_then(|entry| entry.status);
        Self {
            own: ready(&installation.conditions).map_or(ConditionStatus::Unknown, Condition::status),
            entry: status.unwrap_or(ConditionStatus::True),
            generations: (
                installation.credential_generation,
                entry.map_or(0, |entry| entry.generation),
            ),
        }
    }

    /// Whether credential-svc has still to speak.
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
    use contracts::registry::{InstallField, InstallFieldSource, InstallFieldType};
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
            installation: Arc::new(Installation {
                running_entry_revision: 2,
                conditions: reported(ConditionStatus::True, 1),
                credential_generation: 1,
                ..Installation::default()
            }),
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
