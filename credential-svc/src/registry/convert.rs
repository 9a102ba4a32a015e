//! The registry's messages as the domain's types.

use contracts::registry::{
    ConditionStatus, ConditionType, Entry, InstallField, InstallFieldSource, InstallFieldType, Installation,
    StaticCredential, WatchedInstallation, entry::CredentialModel, install_field, static_credential,
};
use registry_client::destination;

use crate::domain::{
    plan::{Injection, Plan, Primary, SecretField, Source, Target},
    views::{EntryView, InstallationView, Reported},
};

/// An installation with what it runs; `None` where the message is not whole.
pub(crate) fn installation(watched: WatchedInstallation) -> Option<InstallationView> {
    let installation = watched.installation?;
    let entry = watched.running_entry?;
    Some(InstallationView {
        plan: plan(&entry),
        reported: reported(&installation),
        entry_uid: installation.entry_uid,
        revision: installation.revision,
        generation: installation.generation,
        credential_generation: installation.credential_generation,
        deleted: installation.delete_time.is_some(),
        uid: installation.uid,
        name: installation.name,
    })
}

/// An entry at its current revision.
pub(crate) fn entry(entry: Entry) -> EntryView {
    EntryView {
        plan: plan(&entry),
        deleted: entry.delete_time.is_some(),
        uid: entry.uid,
        name: entry.name,
    }
}

fn reported(installation: &Installation) -> Option<Reported> {
    let condition = installation
        .conditions
        .iter()
        .find(|condition| condition.r#type() == ConditionType::CredentialReady)?;
    let ready = match condition.status() {
        ConditionStatus::True => true,
        ConditionStatus::False => false,
        ConditionStatus::Unknown | ConditionStatus::Unspecified => return None,
    };
    Some(Reported {
        ready,
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        observed_generation: condition.observed_generation,
    })
}

fn plan(entry: &Entry) -> Plan {
    let primary = match &entry.credential_model {
        Some(CredentialModel::StaticCredential(model)) if !model.field.is_empty() => Some(primary(model)),
        _ => None,
    };
    let fields = entry.install_fields.iter().filter_map(secret_field).collect();
    Plan {
        destination: destination::of_entry(entry),
        fields,
        primary,
    }
}

fn primary(model: &StaticCredential) -> Primary {
    let injection = match &model.injection {
        Some(static_credential::Injection::Authorization(_)) => Injection::Authorization,
        Some(static_credential::Injection::CustomHeader(header)) => Injection::Header(header.name.clone()),
        Some(static_credential::Injection::Bearer(_)) | None => Injection::Bearer,
    };
    Primary {
        field: model.field.clone(),
        injection,
    }
}

/// The field, if its values are secrets.
fn secret_field(field: &InstallField) -> Option<SecretField> {
    if !matches!(field.r#type(), InstallFieldType::Secret | InstallFieldType::File) {
        return None;
    }
    let source = match field.source() {
        InstallFieldSource::Stored => Source::Stored,
        InstallFieldSource::Prompted | InstallFieldSource::Unspecified => Source::Prompted,
    };
    let target = match &field.target {
        None => Target::Primary,
        Some(install_field::Target::EnvironmentVariable(target)) => Target::Environment(target.name.clone()),
        Some(install_field::Target::MountedFile(target)) => Target::File(target.path.clone()),
        Some(install_field::Target::Header(target)) => Target::Header(target.name.clone()),
        Some(install_field::Target::Argument(_)) => Target::Argument,
    };
    let title = if field.title.is_empty() {
        &field.key
    } else {
        &field.title
    };
    Some(SecretField {
        key: field.key.clone(),
        title: title.clone(),
        required: field.required,
        source,
        target,
    })
}
