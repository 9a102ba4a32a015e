//! Whether all required secrets are there: for an installation those that are prompted for, for an entry those that are stored on it.

use super::{
    authorization::plan::{SignIn, Source as Tokens},
    condition::Condition,
    destination::Moved,
    error::Error,
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
        now: i64,
    ) -> Option<Self> {
        let concerns = match source {
            Source::Prompted => true,
            Source::Stored => plan.has(source) || record.generation > 0 || known.shown.is_any(),
        };
        concerns.then(|| {
            let readiness = Readiness::of(plan, present, source, record, now);
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
    /// No account is connected.
    NotConnected,
    /// An account is connected.
    Connected,
    /// The account must be connected again.
    Reconnect { why: String },
}

impl Readiness {
    /// Of the plan's fields of this source, and of its tokens, which are in `record` and go to `present`.
    pub(crate) fn of(plan: &Plan, present: Option<String>, source: Source, record: &Record, now: i64) -> Self {
        let fields = Self::of_fields(plan, present, source, record);
        match plan.tokens.as_ref().map(|tokens| &tokens.source) {
            Some(Tokens::SignIn(plan)) if source == Source::Prompted && fields.is_ready() => {
                Self::of_account(plan, record, now)
            }
            _ => fields,
        }
    }

    /// Of the account that is connected, at the time `now` (microseconds since 1970).
    pub(crate) fn of_account(plan: &SignIn, record: &Record, now: i64) -> Self {
        let Some(grant) = &record.tokens.grant else {
            return Self::NotConnected;
        };
        if let Some(why) = record.tokens.over(now) {
            return Self::Reconnect { why: why.to_owned() };
        }
        if !grant.fits(plan) {
            let why = "the entry now names another authorization server or another client".to_owned();
            return Self::Reconnect { why };
        }
        Self::Connected
    }

    /// Of the plan's fields alone.
    pub(crate) fn of_fields(plan: &Plan, present: Option<String>, source: Source, record: &Record) -> Self {
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
        matches!(self, Self::NotRequired | Self::Stored | Self::Connected)
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
            Self::NotConnected => "CREDENTIAL_REQUIRED",
            Self::Connected => "CONNECTED",
            Self::Reconnect { .. } => "REAUTHENTICATION_REQUIRED",
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
            Self::NotConnected => {
                "connect an account: whoever owns the installation must sign in at its authorization server".to_owned()
            }
            // Which account it is, only those learn who may manage the installation.
            Self::Connected => "an account is connected".to_owned(),
            Self::Reconnect { why } => format!("{why}; whoever owns the installation must connect the account again"),
        }
    }

    /// Why nothing is vended, where it is not ready.
    pub(crate) fn into_error(self) -> Error {
        let (message, condition) = (self.message(), self.reason());
        match self {
            Self::DestinationChanged { source, moved } => Error::DestinationChanged(source, moved),
            Self::Reconnect { .. } => Error::Unusable { message, condition },
            _ => Error::CredentialRequired { message, condition },
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
