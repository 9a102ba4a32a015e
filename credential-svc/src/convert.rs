//! Converts the registry's messages to domain types.

mod tokens;

pub(crate) use self::tokens::caller;

use std::sync::Arc;

use contracts::registry::{
    self as pb, AuthorizeInstallationResponse, Condition, ConditionStatus, ConditionType, Entry, EntryRevision,
    InstallField, Installation, StaticCredential, entry, entry_revision::CredentialModel, entry_revision::Server,
    injection, install_field,
};
use registry_model::{
    cases, credential_models, destination,
    install_fields::{is_prompted, is_secret, title},
};
use tonic::metadata::MetadataMap;

use crate::domain::{
    injection::Injection,
    owner::Source,
    plan::{Plan, Primary, SecretField, Target},
    ports::Lagging,
    views::{EntryView, InstallationView, Reported, Shown, Subject},
};

/// Metadata of an answer: watchers that did not acknowledge in time, as `workload/instance`, separated by commas.
const LAGGING: &str = "chandlery-lagging";

/// An installation.
pub(crate) fn installation(installation: Installation) -> InstallationView {
    InstallationView {
        foreign: destination::ValuesByOthers::of(&installation),
        shown: shown(&installation.conditions, installation.credential_generation),
        entry_uid: installation.entry_uid,
        entry_revision: installation.running_entry_revision,
        registry_revision: installation.registry_revision,
        generation: installation.generation,
        deleted: installation.delete_time.is_some(),
        uid: installation.uid,
    }
}

/// An installation with what it runs, as authorized; `None` where the answer is incomplete.
pub(crate) fn authorized(answer: AuthorizeInstallationResponse) -> Option<Subject> {
    let plan = plan(&answer.running_entry_revision?);
    let made = answer.installation?;
    let values = destination::values(&made);
    Some(Subject::Installation(installation(made), Arc::new(plan), values))
}

/// An entry at its current revision.
pub(crate) fn entry(entry: Entry) -> EntryView {
    EntryView {
        shown: shown(&entry.conditions, entry.credential_generation),
        entry_revision: entry.entry_revision,
        registry_revision: entry.registry_revision,
        deleted: entry.delete_time.is_some(),
        uid: entry.uid,
        name: entry.name,
        plan: Arc::new(plan(&EntryRevision {
            server: entry.server.map(|server| match server {
                entry::Server::Remote(remote) => Server::Remote(remote),
                entry::Server::SelfHosted(server) => Server::SelfHosted(server),
            }),
            credential_model: entry.credential_model.map(credential_models::of_entry),
            install_fields: entry.install_fields,
            additional_headers: entry.additional_headers,
            ..EntryRevision::default()
        })),
    }
}

/// The part of an entry revision that this service acts on.
pub(crate) fn plan(revision: &EntryRevision) -> Plan {
    let primary = match &revision.credential_model {
        Some(CredentialModel::StaticCredential(model)) if !model.field.is_empty() => Some(primary(model)),
        _ => None,
    };
    // A revision with a oneof case of a newer contract has no destination, so nothing is vended for it.
    let destination = destination::describe(revision).filter(|_| cases::all_known(revision));
    Plan {
        destination,
        fields: revision.install_fields.iter().filter_map(secret_field).collect(),
        primary,
        tokens: tokens::plan(revision),
    }
}

fn shown(conditions: &[Condition], credential_generation: i64) -> Shown {
    let ready = |condition: &&Condition| condition.r#type() == ConditionType::CredentialReady;
    Shown {
        credential_generation,
        condition: conditions.iter().find(ready).and_then(reported),
    }
}

fn reported(condition: &Condition) -> Option<Reported> {
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

fn primary(model: &StaticCredential) -> Primary {
    Primary {
        field: model.field.clone(),
        injection: injection(model.injection.as_ref()),
    }
}

fn injection(injection: Option<&pb::Injection>) -> Injection {
    match injection.and_then(|injection| injection.kind.as_ref()) {
        Some(injection::Kind::Authorization(_)) => Injection::Authorization,
        Some(injection::Kind::CustomHeader(header)) => Injection::Header(header.name.clone()),
        Some(injection::Kind::Bearer(_)) | None => Injection::Bearer,
    }
}

/// The field, if its value is a secret.
fn secret_field(field: &InstallField) -> Option<SecretField> {
    if !is_secret(field) {
        return None;
    }
    let source = if is_prompted(field) {
        Source::Prompted
    } else {
        Source::Stored
    };
    let target = match &field.target {
        None => Target::Model,
        Some(install_field::Target::EnvironmentVariable(target)) => Target::Environment(target.name.clone()),
        Some(install_field::Target::MountedFile(target)) => Target::File(target.path.clone()),
        Some(install_field::Target::Header(target)) => Target::Header(target.name.clone()),
        Some(install_field::Target::Argument(_)) => Target::Argument,
    };
    Some(SecretField {
        key: field.key.clone(),
        title: title(field).to_owned(),
        required: field.required,
        source,
        target,
    })
}

/// The watchers that an answer names as lagging.
pub(crate) fn lagging(answer: &MetadataMap) -> Lagging {
    let names = answer.get(LAGGING).and_then(|names| names.to_str().ok());
    let names = names.unwrap_or_default().split(',').map(str::trim);
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Names the watchers that lag in an answer, where there are any.
pub(crate) fn tell_lagging(lagging: Lagging, answer: &mut MetadataMap) {
    let names = Vec::from_iter(lagging).join(",");
    if !names.is_empty()
        && let Ok(names) = names.parse()
    {
        answer.insert(LAGGING, names);
    }
}
