//! The headers of an entry: the primary credential's, those of install fields, and additional ones.

use std::collections::BTreeMap;

use contracts::registry as pb;
use pb::{InstallField, additional_header::Source, entry::CredentialModel, injection, install_field::Target};
use registry_model::{
    headers::{is_authorization, is_field_name, is_field_value, is_managed},
    install_fields::is_secret,
};
use service_kit::status::Violations;

use super::{
    credential_model,
    transport::{REQUIRES_HTTP, takes_headers},
};

const MAX_ADDITIONAL: usize = 32;
/// Names of headers set so far, in lower case, and by what.
type Names = BTreeMap<String, String>;

/// Whether the field's value ends in a header.
pub(super) fn receives(entry: &pb::Entry, field: &InstallField) -> bool {
    matches!(field.target, Some(Target::Header(_)))
        || primary(entry) == Some(&field.key)
        || entry.additional_headers.iter().any(|header| names(header, &field.key))
}

/// Whether a secret ends in a header.
pub(super) fn send_secrets(entry: &pb::Entry) -> bool {
    let fields = &entry.install_fields;
    credential_model::injection(entry).is_some()
        || fields.iter().any(|field| is_secret(field) && receives(entry, field))
}

/// Key of the field whose value is the primary credential.
fn primary(entry: &pb::Entry) -> Option<&String> {
    match &entry.credential_model {
        Some(CredentialModel::StaticCredential(model)) if !model.field.is_empty() => Some(&model.field),
        _ => None,
    }
}

/// Whether the additional header takes its value from this field.
pub(super) fn names(header: &pb::AdditionalHeader, key: &str) -> bool {
    matches!(&header.source, Some(Source::Field(field)) if field == key)
}

/// Checks all of them; install fields have been checked by themselves.
pub(super) fn check(violations: &mut Violations, entry: &pb::Entry) {
    let mut seen = Names::new();
    check_primary(violations, entry, &mut seen);
    for (index, field) in entry.install_fields.iter().enumerate() {
        if let Some(Target::Header(target)) = &field.target {
            let path = format!("entry.install_fields[{index}].header");
            check_name(violations, &mut seen, &format!("{path}.name"), &target.name);
            if !takes_headers(entry) {
                violations.add(path, REQUIRES_HTTP);
            }
        }
    }
    check_additional(violations, entry, &mut seen);
}

fn check_primary(violations: &mut Violations, entry: &pb::Entry, seen: &mut Names) {
    let (Some(model), Some(injection)) = (&entry.credential_model, credential_model::injection(entry)) else {
        return;
    };
    let path = format!("entry.{}.injection", credential_model::name(model));
    match injection.map(|injection| injection.kind) {
        Some(None) => violations.add(path, "must be set: authorization, bearer or custom_header"),
        Some(Some(injection::Kind::CustomHeader(header))) => {
            check_name(violations, seen, &format!("{path}.custom_header.name"), &header.name);
        }
        _ => {
            seen.insert("authorization".to_owned(), path);
        }
    }
}

fn check_additional(violations: &mut Violations, entry: &pb::Entry, seen: &mut Names) {
    if entry.additional_headers.len() > MAX_ADDITIONAL {
        violations.add(
            "entry.additional_headers",
            format!("must have at most {MAX_ADDITIONAL} elements"),
        );
        return;
    }
    if !entry.additional_headers.is_empty() && !takes_headers(entry) {
        violations.add("entry.additional_headers", REQUIRES_HTTP);
    }
    for (index, header) in entry.additional_headers.iter().enumerate() {
        let path = format!("entry.additional_headers[{index}]");
        check_name(violations, seen, &format!("{path}.name"), &header.name);
        match &header.source {
            None => violations.add(path, "must have a value: value or field"),
            Some(Source::Value(value)) if value.is_empty() || !is_field_value(value) => violations.add(
                format!("{path}.value"),
                "must be 1 to 8,192 visible ASCII characters, with spaces only between them and no line breaks",
            ),
            Some(Source::Value(_)) => {}
            Some(Source::Field(key)) => {
                if let Some(wrong) = wrong_source(entry, key) {
                    violations.add(format!("{path}.field"), wrong);
                }
            }
        }
    }
}

fn wrong_source(entry: &pb::Entry, key: &str) -> Option<String> {
    match entry.install_fields.iter().find(|field| field.key == key) {
        None => Some(format!("no install field has the key {key:?}")),
        Some(field) if is_secret(field) => Some(format!(
            "the install field {key:?} is a secret: give it a header target in place of an additional header"
        )),
        Some(field) if field.target.is_some() => Some(format!(
            "the install field {key:?} must have no target: this header is where it goes"
        )),
        Some(_) => None,
    }
}

fn check_name(violations: &mut Violations, seen: &mut Names, path: &str, name: &str) {
    if !is_field_name(name) {
        violations.add(
            path,
            "must be a header name (RFC 9110, section 5.1): letters, digits and !#$%&'*+-.^_`|~, at most 128",
        );
    } else if is_authorization(name) {
        violations.add(
            path,
            "only the credential model sets Authorization, as its injection says",
        );
    } else if is_managed(name) {
        violations.add(path, format!("{name} is managed by the gateway and cannot be set"));
    } else if let Some(other) = seen.insert(name.to_ascii_lowercase(), path.to_owned()) {
        violations.add(path, format!("{name} is also set by {other}"));
    }
}
