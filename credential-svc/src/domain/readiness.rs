//! Whether an installation has all the secrets it needs, and how that is told.

use super::{
    error::Error,
    plan::{Plan, SecretField, Source},
    record::Record,
};

/// CREDENTIAL_READY of an installation, as the registry takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) ready: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) observed_generation: i64,
    pub(crate) credential_generation: i64,
}

/// How an installation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// No secret is needed, and none is there.
    NotRequired,
    /// All that is needed is there.
    Stored,
    /// Required fields have no value; keys with titles. `own` are for the owner, `entry` for an admin.
    Missing { own: Vec<String>, entry: Vec<String> },
    /// Values are bound to another destination.
    DestinationChanged {
        source: Source,
        bound: String,
        present: String,
    },
}

impl Readiness {
    /// Of the installation with the secrets `own`, whose entry has the secrets `entry`.
    pub(crate) fn of(plan: &Plan, own: &Record, entry: &Record) -> Self {
        for (record, source) in [(own, Source::Prompted), (entry, Source::Stored)] {
            if record.is_bound_elsewhere(plan, source) {
                let present = plan.destination.clone().unwrap_or_default();
                return Self::DestinationChanged {
                    source,
                    bound: record.bound_destination.clone(),
                    present,
                };
            }
        }
        let missing = |record: &Record, source| -> Vec<String> {
            let lacks = |field: &&SecretField| field.required && !record.fields.contains_key(&field.key);
            plan.of(source).filter(lacks).map(named).collect()
        };
        let (own_missing, entry_missing) = (missing(own, Source::Prompted), missing(entry, Source::Stored));
        if !own_missing.is_empty() || !entry_missing.is_empty() {
            return Self::Missing {
                own: own_missing,
                entry: entry_missing,
            };
        }
        let stored = plan.fields.iter().any(|field| match field.source {
            Source::Prompted => own.fields.contains_key(&field.key),
            Source::Stored => entry.fields.contains_key(&field.key),
        });
        if stored { Self::Stored } else { Self::NotRequired }
    }

    /// Whether secrets may be vended.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self, Self::NotRequired | Self::Stored)
    }

    /// UPPER_SNAKE_CASE, for programs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NotRequired => "NOT_REQUIRED",
            Self::Stored => "STORED",
            Self::Missing { own, .. } if own.is_empty() => "ENTRY_CREDENTIAL_REQUIRED",
            Self::Missing { .. } => "CREDENTIAL_REQUIRED",
            Self::DestinationChanged { .. } => "DESTINATION_CHANGED",
        }
    }

    /// For people: what is wrong and what to do.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::NotRequired => "no secret is needed".to_owned(),
            Self::Stored => "all secrets that are needed are stored".to_owned(),
            Self::Missing { own, entry } if own.is_empty() => {
                format!("an admin must store these secrets on the entry: {}", entry.join(", "))
            }
            Self::Missing { own, entry } if entry.is_empty() => {
                format!("enter these secrets: {}", own.join(", "))
            }
            Self::Missing { own, entry } => format!(
                "enter these secrets: {}; and an admin must store these on the entry: {}",
                own.join(", "),
                entry.join(", ")
            ),
            Self::DestinationChanged {
                source: Source::Prompted,
                bound,
                present,
            } => format!(
                "the entry now points to {present}, but the secrets were entered for {bound}; confirm the new destination, or enter all secrets again"
            ),
            Self::DestinationChanged {
                source: Source::Stored,
                bound,
                present,
            } => format!(
                "the server is now at {present}, but the secrets stored on the entry were meant for {bound}; an admin must confirm the new destination, or store all of them again"
            ),
        }
    }

    /// The error of a call that wants secrets, where there are none to give.
    pub(crate) fn into_error(self) -> Option<Error> {
        match self {
            Self::NotRequired | Self::Stored => None,
            Self::Missing { .. } => Some(Error::CredentialRequired {
                message: self.message(),
                condition: self.reason(),
            }),
            Self::DestinationChanged { bound, present, .. } => Some(Error::DestinationChanged { bound, present }),
        }
    }
}

fn named(field: &SecretField) -> String {
    if field.title == field.key {
        field.key.clone()
    } else {
        format!("{} ({})", field.title, field.key)
    }
}
