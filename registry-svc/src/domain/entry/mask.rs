//! Which fields of an entry an update changes.

use contracts::registry as pb;
use pb::entry::{CredentialModel, Server};
use prost_types::FieldMask;
use service_kit::status::Violations;

use crate::domain::field_mask::Mask;

/// `current` with the fields that `mask` names taken from `change`. The result is yet to be checked.
pub(crate) fn apply_mask(
    current: &pb::Entry,
    change: pb::Entry,
    mask: Option<&FieldMask>,
) -> Result<pb::Entry, Violations> {
    let pb::Entry {
        name: _,
        uid: _,
        display_name,
        description,
        instructions,
        icon_url,
        docs_url,
        version,
        labels,
        visibility,
        lifecycle: _,
        server,
        credential_model,
        install_fields,
        additional_headers,
        etag: _,
        entry_revision: _,
        create_time: _,
        update_time: _,
        creator: _,
        updater: _,
        delete_time: _,
        registry_revision: _,
        conditions: _,
        credential_generation: _,
        discovered: _,
        rollout: _,
    } = change;
    let mut entry = current.clone();
    let mut mask = Mask::new(mask);
    mask.apply("display_name", &mut entry.display_name, display_name);
    mask.apply("description", &mut entry.description, description);
    mask.apply("instructions", &mut entry.instructions, instructions);
    mask.apply("icon_url", &mut entry.icon_url, icon_url);
    mask.apply("docs_url", &mut entry.docs_url, docs_url);
    mask.apply("version", &mut entry.version, version);
    mask.apply("labels", &mut entry.labels, labels);
    mask.apply("visibility", &mut entry.visibility, visibility);
    mask.apply_case("remote", &mut entry.server, &server, |server| match server {
        Server::Remote(_) => true,
        Server::SelfHosted(_) => false,
    });
    mask.apply_case("self_hosted", &mut entry.server, &server, |server| match server {
        Server::SelfHosted(_) => true,
        Server::Remote(_) => false,
    });
    let model = &mut entry.credential_model;
    mask.apply_case("no_credential", model, &credential_model, |model| match model {
        CredentialModel::NoCredential(_) => true,
        CredentialModel::StaticCredential(_) => false,
    });
    mask.apply_case("static_credential", model, &credential_model, |model| match model {
        CredentialModel::StaticCredential(_) => true,
        CredentialModel::NoCredential(_) => false,
    });
    mask.apply("install_fields", &mut entry.install_fields, install_fields);
    mask.apply("additional_headers", &mut entry.additional_headers, additional_headers);
    mask.finish()?;
    Ok(entry)
}
