//! What an entry says about secrets: which there are, where they come from, where they go.

/// The part of an entry revision that this service acts on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// See `registry_client::destination`. `None` for an entry without a server.
    pub(crate) destination: Option<String>,
    /// The install fields whose values only this service sees, in the entry's order.
    pub(crate) fields: Vec<SecretField>,
    /// The credential that authenticates each request, if the entry has one.
    pub(crate) primary: Option<Primary>,
}

/// An install field of type SECRET or FILE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretField {
    pub(crate) key: String,
    /// What people read; never empty.
    pub(crate) title: String,
    pub(crate) required: bool,
    pub(crate) source: Source,
    pub(crate) target: Target,
}

/// Who provides a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The person who installs.
    Prompted,
    /// An admin, once for all installations.
    Stored,
}

/// Where a value goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Nowhere by itself: the primary credential.
    Primary,
    Environment(String),
    File(String),
    Header(String),
    Argument,
}

/// The primary credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Primary {
    /// Key of its field.
    pub(crate) field: String,
    pub(crate) injection: Injection,
}

/// How the primary credential is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Injection {
    /// `Authorization: <value>`.
    Authorization,
    /// `Authorization: Bearer <value>`.
    Bearer,
    /// `<name>: <value>`.
    Header(String),
}

impl Plan {
    /// The fields whose values come from `source`.
    pub(crate) fn of(&self, source: Source) -> impl Iterator<Item = &SecretField> {
        self.fields.iter().filter(move |field| field.source == source)
    }

    /// Whether there are such fields.
    pub(crate) fn has(&self, source: Source) -> bool {
        self.of(source).next().is_some()
    }

    /// A field by key, if its value comes from `source`.
    pub(crate) fn field(&self, key: &str, source: Source) -> Option<&SecretField> {
        self.of(source).find(|field| field.key == key)
    }

    /// Whether the field's value is sent in a header, as the primary credential or by its target.
    pub(crate) fn is_header(&self, field: &SecretField) -> bool {
        matches!(field.target, Target::Header(_))
            || self.primary.as_ref().is_some_and(|primary| primary.field == field.key)
    }
}
