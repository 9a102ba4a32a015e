//! A registry entry: what an admin writes, checked as a whole.
//!
//! An entry is kept and shown as the contract's own message, in which every later capability is an additive field. What
//! turns a message into an [`EntrySpec`] is that it was checked; nothing behind the parser looks at it with doubt again.

mod headers;
mod install_fields;
mod mask;
mod server;
#[cfg(test)]
mod tests;

use contracts::registry as pb;
use pb::{InstallField, InstallFieldSource, InstallFieldType};
use service_kit::{egress::EgressPolicy, status::Violations};

use super::{
    text::{check_labels, check_line, check_link, check_text},
    visibility,
};

pub(crate) use install_fields::check_value;
pub(crate) use mask::apply_mask;

/// What an admin says about an entry, valid as a whole; every output only field is empty.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EntrySpec(pb::Entry);

impl EntrySpec {
    /// Checks a message; names everything that is wrong, with paths that begin with `entry`. Output only fields are ignored.
    pub(crate) fn parse(entry: pb::Entry, egress: &EgressPolicy) -> Result<Self, Violations> {
        let mut entry = without_outputs(entry);
        let mut violations = Violations::new();
        check_words(&mut violations, &entry);
        entry.visibility = Some(visibility::parse(
            &mut violations,
            "entry.visibility",
            entry.visibility.take(),
        ));
        server::check(&mut violations, &mut entry, egress);
        install_fields::check(&mut violations, &mut entry);
        headers::check(&mut violations, &entry);
        violations.into_result(Self(entry))
    }

    /// A specification that was checked before it was saved.
    pub(crate) fn from_stored(entry: pb::Entry) -> Self {
        Self(entry)
    }

    /// The message.
    pub(crate) fn message(&self) -> &pb::Entry {
        &self.0
    }

    /// Whether what runs, or what a call sends, differs: then an installation that moves from one to the other has a new generation.
    pub(crate) fn runs_as(&self, other: &Self) -> bool {
        self.0.server == other.0.server
            && self.0.credential_model == other.0.credential_model
            && self.0.install_fields == other.0.install_fields
            && self.0.additional_headers == other.0.additional_headers
    }

    /// The field of this key.
    pub(crate) fn field(&self, key: &str) -> Option<&InstallField> {
        self.0.install_fields.iter().find(|field| field.key == key)
    }

    /// Whether the field's value ends in a header, by its target or by an additional header.
    pub(crate) fn goes_to_header(&self, field: &InstallField) -> bool {
        headers::receives(&self.0, field)
    }
}

/// Whether a field's value is kept by the credential service alone.
pub(crate) fn is_secret(field: &InstallField) -> bool {
    matches!(field.r#type(), InstallFieldType::Secret | InstallFieldType::File)
}

/// Whether whoever installs provides it.
pub(crate) fn is_prompted(field: &InstallField) -> bool {
    field.source() != InstallFieldSource::Stored
}

/// Whether an entry may go from one lifecycle to the other.
pub(crate) fn may_become(from: pb::EntryLifecycle, to: pb::EntryLifecycle) -> bool {
    use pb::EntryLifecycle::{Approved, Deprecated, Draft};
    matches!((from, to), (Draft | Deprecated, Approved) | (Approved, Deprecated))
}

/// Lower case, as people read it in errors.
pub(crate) fn lifecycle_word(lifecycle: pb::EntryLifecycle) -> &'static str {
    match lifecycle {
        pb::EntryLifecycle::Approved => "approved",
        pb::EntryLifecycle::Deprecated => "deprecated",
        pb::EntryLifecycle::Draft | pb::EntryLifecycle::Unspecified => "a draft",
    }
}

fn without_outputs(entry: pb::Entry) -> pb::Entry {
    pb::Entry {
        name: String::new(),
        uid: String::new(),
        lifecycle: 0,
        etag: String::new(),
        entry_revision: 0,
        create_time: None,
        update_time: None,
        creator: String::new(),
        updater: String::new(),
        delete_time: None,
        revision: 0,
        ..entry
    }
}

fn check_words(violations: &mut Violations, entry: &pb::Entry) {
    check_line(violations, "entry.display_name", &entry.display_name, 120);
    check_text(violations, "entry.description", &entry.description, 4_000);
    check_text(violations, "entry.instructions", &entry.instructions, 20_000);
    check_link(violations, "entry.icon_url", &entry.icon_url, &["https"]);
    check_link(violations, "entry.docs_url", &entry.docs_url, &["http", "https"]);
    check_line(violations, "entry.version", &entry.version, 120);
    check_labels(violations, "entry.labels", &entry.labels);
}
