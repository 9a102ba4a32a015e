//! Whether all required secrets are there: for an installation those that are prompted for, for an entry those that are stored on it.

use super::{
    condition::Condition,
    destination::Moved,
    owner::Source,
    plan::{Plan, SecretField},
    record::Record,
    views::Known,
};

/// Characters of a report's message.
const MAX_MESSAGE: usize = 4_000;

impl Condition {
    /// The report on an owner with this record; `None` for an entry that never had secrets and requires none.
    /// Its secrets go to `present`.
    pub(crate) fn of(
        known: &Known,
        plan: &Plan,
        present: Option<String>,
        source: Source,
        record: &Record,
    ) -> Option<Self> {
        let concerns = match source {
            Source::Prompted => true,
            Source::Stored => plan.has(source) || record.generation > 0 || known.shown.is_any(),
        };
        concerns.then(|| {
            let readiness = Readiness::of(plan, present, source, record);
            Self {
                ready: readiness.is_ready(),
                reason: readiness.reason(),
                // An entry with many long titles may need more than the registry takes.
                message: readiness.message().chars().take(MAX_MESSAGE).collect(),
                observed_generation: known.generation,
                credential_generation: record.generation,
            }
        })
    }
}

/// Whether an owner's secrets can be vended, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// No secret is required, and none is stored.
    NotRequired,
    /// All required secrets are stored.
    Stored,
    /// Required fields have no value; keys with titles.
    Missing { source: Source, fields: Vec<String> },
    /// Values are bound to another destination.
    DestinationChanged { source: Source, moved: Moved },
}

impl Readiness {
    /// Of the plan's fields of this source, whose values are in `record` and go to `present`.
    pub(crate) fn of(plan: &Plan, present: Option<String>, source: Source, record: &Record) -> Self {
        if plan.is_bound_elsewhere(source, record, present.as_deref()) {
            let moved = Moved {
                bound: record.bound_destination.clone(),
                present: present.unwrap_or_default(),
            };
            return Self::DestinationChanged { source, moved };
        }
        let has = |field: &SecretField| record.fields.contains_key(&field.key);
        let missing = plan.of(source).filter(|field| field.required && !has(field));
        let fields: Vec<String> = missing.map(named).collect();
        if !fields.is_empty() {
            return Self::Missing { source, fields };
        }
        if plan.of(source).any(has) {
            Self::Stored
        } else {
            Self::NotRequired
        }
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
            Self::Missing {
                source: Source::Prompted,
                ..
            } => "CREDENTIAL_REQUIRED",
            Self::Missing {
                source: Source::Stored, ..
            } => "ENTRY_CREDENTIAL_REQUIRED",
            Self::DestinationChanged { .. } => "DESTINATION_CHANGED",
        }
    }

    /// For people: what is wrong and what to do.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::NotRequired => "no secret is required".to_owned(),
            Self::Stored => "all required secrets are stored".to_owned(),
            Self::Missing {
                source: Source::Prompted,
                fields,
            } => format!("enter these secrets: {}", fields.join(", ")),
            Self::Missing {
                source: Source::Stored,
                fields,
            } => format!("an admin must store these secrets on the entry: {}", fields.join(", ")),
            Self::DestinationChanged { source, moved } => moved.message(*source),
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
