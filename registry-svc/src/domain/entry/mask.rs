//! Which fields of an entry an update changes.

use contracts::registry as pb;
use pb::entry::{CredentialModel, Server};
use prost_types::FieldMask;
use service_kit::status::Violations;

use crate::domain::field_mask::{self, Paths};

/// All that can be changed.
const FIELDS: [&str; 14] = [
    "display_name",
    "description",
    "instructions",
    "icon_url",
    "docs_url",
    "version",
    "labels",
    "visibility",
    "remote",
    "self_hosted",
    "no_credential",
    "static_credential",
    "install_fields",
    "additional_headers",
];

/// `current` with the fields that `mask` names taken from `change`; of a oneof, a field that is named but not set is cleared.
/// The result is yet to be checked.
pub(crate) fn apply_mask(
    current: &pb::Entry,
    change: pb::Entry,
    mask: Option<&FieldMask>,
) -> Result<pb::Entry, Violations> {
    let paths = match field_mask::parse(mask, &FIELDS)? {
        Paths::All => return Ok(change),
        Paths::Some(paths) => paths,
    };
    let mut entry = current.clone();
    for path in paths {
        match path {
            "display_name" => entry.display_name.clone_from(&change.display_name),
            "description" => entry.description.clone_from(&change.description),
            "instructions" => entry.instructions.clone_from(&change.instructions),
            "icon_url" => entry.icon_url.clone_from(&change.icon_url),
            "docs_url" => entry.docs_url.clone_from(&change.docs_url),
            "version" => entry.version.clone_from(&change.version),
            "labels" => entry.labels.clone_from(&change.labels),
            "visibility" => entry.visibility.clone_from(&change.visibility),
            "install_fields" => entry.install_fields.clone_from(&change.install_fields),
            "additional_headers" => entry.additional_headers.clone_from(&change.additional_headers),
            "remote" => merge(&mut entry.server, &change.server, |server| {
                matches!(server, Server::Remote(_))
            }),
            "self_hosted" => merge(&mut entry.server, &change.server, |server| {
                matches!(server, Server::SelfHosted(_))
            }),
            "no_credential" => merge(&mut entry.credential_model, &change.credential_model, |model| {
                matches!(model, CredentialModel::NoCredential(_))
            }),
            _ => merge(&mut entry.credential_model, &change.credential_model, |model| {
                matches!(model, CredentialModel::StaticCredential(_))
            }),
        }
    }
    Ok(entry)
}

/// Takes the case of a oneof that `is_case` knows from `change`, if it is set there; else clears it, if it is set now.
fn merge<T: Clone>(current: &mut Option<T>, change: &Option<T>, is_case: impl Fn(&T) -> bool) {
    if change.as_ref().is_some_and(&is_case) {
        current.clone_from(change);
    } else if current.as_ref().is_some_and(&is_case) {
        *current = None;
    }
}
