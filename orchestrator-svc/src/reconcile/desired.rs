//! The desired state of an installation, from the registry's watch.

use std::sync::Arc;

use contracts::registry::{Condition, ConditionStatus, ConditionType, Entry, EntryRevision, Installation};

use registry_model::install_fields::has_stored_secrets;

/// An installation with the objects that decide what it runs.
#[derive(Clone, Debug)]
pub(crate) struct Desired {
    pub(crate) installation: Arc<Installation>,
    /// `None` if the watch has not delivered it yet.
    pub(crate) revision: Option<Arc<EntryRevision>>,
    pub(crate) entry: EntryCredential,
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

    /// For the server of an installation that runs `revision`.
    pub(crate) fn of(desired: &Desired, revision: &EntryRevision) -> Self {
        let installation = &desired.installation;
        let entry = Some(desired.entry).filter(|_| has_stored_secrets(&revision.install_fields));
        let status = entry
            // A report about another entry revision does not apply. credential-svc decides when the secrets are drawn.
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
