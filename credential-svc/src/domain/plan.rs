//! What an entry says about secrets: which there are, where they come from, where they go.

use sha2::{Digest as _, Sha256};

/// The part of an entry's revision that this service acts on.
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

    /// A field by key, if its value comes from `source`.
    pub(crate) fn field(&self, key: &str, source: Source) -> Option<&SecretField> {
        self.of(source).find(|field| field.key == key)
    }

    /// Whether the field's value is sent in a header, as the primary credential or by its target.
    pub(crate) fn is_header(&self, field: &SecretField) -> bool {
        matches!(field.target, Target::Header(_))
            || self.primary.as_ref().is_some_and(|primary| primary.field == field.key)
    }

    /// Changes exactly when something changes in what is vended, values apart. The same in every version of the program:
    /// a difference restarts servers.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        part(self.destination.as_deref().unwrap_or_default());
        for field in &self.fields {
            let (kind, name) = match &field.target {
                Target::Primary => ("primary", ""),
                Target::Environment(name) => ("environment", name.as_str()),
                Target::File(path) => ("file", path.as_str()),
                Target::Header(name) => ("header", name.as_str()),
                Target::Argument => ("argument", ""),
            };
            let source = match field.source {
                Source::Prompted => "prompted",
                Source::Stored => "stored",
            };
            for text in ["field", &field.key, source, kind, name] {
                part(text);
            }
        }
        if let Some(primary) = &self.primary {
            let (mode, name) = match &primary.injection {
                Injection::Authorization => ("authorization", ""),
                Injection::Bearer => ("bearer", ""),
                Injection::Header(name) => ("header", name.as_str()),
            };
            for text in ["primary", &primary.field, mode, name] {
                part(text);
            }
        }
        hash.finalize().into()
    }
}
