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
        label_revisions: _,
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
    for (name, is_case) in CREDENTIAL_MODELS {
        mask.apply_case(name, model, &credential_model, is_case);
    }
    mask.apply("install_fields", &mut entry.install_fields, install_fields);
    mask.apply("additional_headers", &mut entry.additional_headers, additional_headers);
    mask.finish()?;
    Ok(entry)
}

type IsModel = fn(&CredentialModel) -> bool;

/// The fields of the oneof `credential_model`.
const CREDENTIAL_MODELS: [(&str, IsModel); 6] = [
    ("no_credential", |model| {
        matches!(model, CredentialModel::NoCredential(_))
    }),
    ("static_credential", |model| {
        matches!(model, CredentialModel::StaticCredential(_))
    }),
    ("oauth", |model| matches!(model, CredentialModel::Oauth(_))),
    ("client_credentials", |model| {
        matches!(model, CredentialModel::ClientCredentials(_))
    }),
    ("token_exchange", |model| {
        matches!(model, CredentialModel::TokenExchange(_))
    }),
    ("jwt_passthrough", |model| {
        matches!(model, CredentialModel::JwtPassthrough(_))
    }),
];
