//! Install fields: what an installation provides, what may be entered, and where it goes.

use std::collections::BTreeMap;

use contracts::registry as pb;
use pb::{
    InstallField, InstallFieldSource, InstallFieldType, entry::Server, install_field::Target,
    self_hosted_server::Transport,
};
use registry_model::{
    headers::is_field_value,
    install_fields::{is_prompted, is_secret},
};
use service_kit::status::Violations;

use super::{
    credential_model, headers,
    server::{ENVIRONMENT_RULE, PATH_RULE},
    tenancy,
};
use crate::domain::text::{check_line, check_text, is_environment_variable, is_path_below};

/// The most install fields of an entry.
pub(crate) const MAX_FIELDS: usize = 64;
const MAX_OPTIONS: usize = 100;
const MAX_TEMPLATE: usize = 32;
/// The longest text value, in bytes.
const MAX_STRING: usize = 8 << 10;
const REQUIRES_SELF_HOSTED: &str = "requires a self-hosted server";

/// Checks all of them, and makes defaults explicit.
pub(super) fn check(violations: &mut Violations, entry: &mut pb::Entry) {
    if entry.install_fields.len() > MAX_FIELDS {
        violations.add(
            "entry.install_fields",
            format!("must have at most {MAX_FIELDS} elements"),
        );
        return;
    }
    for field in &mut entry.install_fields {
        if field.source() == InstallFieldSource::Unspecified {
            field.set_source(InstallFieldSource::Prompted);
        }
    }
    let mut taken = Taken::of_server(entry);
    let credential_fields = credential_model::fields(entry);
    for (index, field) in entry.install_fields.iter().enumerate() {
        let mut part = Violations::new();
        check_key(&mut part, field, &mut taken);
        check_words(&mut part, field);
        check_type(&mut part, field);
        check_values(&mut part, field, headers::receives(entry, field));
        check_target(&mut part, entry, &credential_fields, field, &mut taken);
        tenancy::check_field(&mut part, entry, field);
        violations.extend(&format!("entry.install_fields[{index}]"), part);
    }
}

/// Whether `value` may be entered into the field; the error says what it must be. The caller decides about an empty one.
pub(crate) fn check_value(field: &InstallField, value: &str, to_header: bool) -> Result<(), String> {
    if value.len() > MAX_STRING {
        return Err(format!("must have at most {MAX_STRING} bytes"));
    }
    if value.contains('\0') {
        return Err("must not contain NUL".to_owned());
    }
    if to_header && !is_field_value(value) {
        return Err(
            "goes to a header: visible ASCII characters only, spaces only between them, no line breaks".to_owned(),
        );
    }
    match field.r#type() {
        InstallFieldType::Number
            if serde_json::from_str::<serde_json::Number>(value).is_err() || value.trim() != value =>
        {
            Err("must be a decimal number, as in JSON".to_owned())
        }
        InstallFieldType::Boolean if !matches!(value, "true" | "false") => Err("must be true or false".to_owned()),
        InstallFieldType::Select if !field.options.iter().any(|option| option == value) => {
            Err(format!("must be one of {}", field.options.join(", ")))
        }
        _ => Ok(()),
    }
}

/// What one entry can have only once: field keys, environment variables, files.
#[derive(Default)]
struct Taken {
    keys: BTreeMap<String, ()>,
    environment: BTreeMap<String, ()>,
    files: BTreeMap<String, ()>,
}

impl Taken {
    fn of_server(entry: &pb::Entry) -> Self {
        let mut taken = Self::default();
        if let Some(Server::SelfHosted(server)) = &entry.server {
            taken
                .environment
                .extend(server.environment.keys().map(|name| (name.clone(), ())));
            taken
                .files
                .extend(server.files.iter().map(|file| (file.path.clone(), ())));
            if matches!(&server.transport, Some(Transport::StreamableHttp(http)) if http.port == 0) {
                taken.environment.insert("PORT".to_owned(), ());
            }
        }
        taken
    }
}

fn check_key(violations: &mut Violations, field: &InstallField, taken: &mut Taken) {
    let bytes = field.key.as_bytes();
    let valid = bytes.len() <= 63
        && bytes
            .first()
            .is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(byte));
    if !valid {
        violations.add(
            "key",
            "must be 1 to 63 of A-Z, a-z, 0-9, _ and -, beginning with a letter or _",
        );
    } else if taken.keys.insert(field.key.clone(), ()).is_some() {
        violations.add("key", format!("{} is the key of another field", field.key));
    }
}

fn check_words(violations: &mut Violations, field: &InstallField) {
    check_line(violations, "title", &field.title, 120);
    check_text(violations, "description", &field.description, 4_000);
}

fn check_type(violations: &mut Violations, field: &InstallField) {
    if field.r#type() == InstallFieldType::Unspecified {
        violations.add("type", "must be STRING, SECRET, NUMBER, BOOLEAN, SELECT or FILE");
    }
    if InstallFieldSource::try_from(field.source).is_err() {
        violations.add("source", "must be PROMPTED or STORED");
    }
    if field.r#type() != InstallFieldType::Select {
        if !field.options.is_empty() {
            violations.add("options", "are for fields of type SELECT");
        }
        return;
    }
    if field.options.is_empty() || field.options.len() > MAX_OPTIONS {
        violations.add("options", format!("must be 1 to {MAX_OPTIONS}"));
        return;
    }
    for (index, option) in field.options.iter().enumerate() {
        let path = format!("options[{index}]");
        if option.is_empty() {
            violations.add(path, "must not be empty");
        } else if field.options[..index].contains(option) {
            violations.add(path, format!("{option:?} is a duplicate"));
        } else {
            check_line(violations, &path, option, 200);
        }
    }
}

fn check_values(violations: &mut Violations, field: &InstallField, to_header: bool) {
    let stored = !is_prompted(field);
    for (path, value) in [
        ("default_value", &field.default_value),
        ("stored_value", &field.stored_value),
    ] {
        if value.is_empty() {
            continue;
        }
        if is_secret(field) {
            violations.add(
                path,
                "is not for secrets and files: send them to the credential service",
            );
        } else if let Err(wrong) = check_value(field, value, to_header) {
            violations.add(path, wrong);
        }
    }
    if stored && !field.default_value.is_empty() {
        violations.add(
            "default_value",
            "is for prompted fields; a stored field has a stored_value",
        );
    }
    if !stored && !field.stored_value.is_empty() {
        violations.add("stored_value", "is for fields with source STORED");
    }
    if stored && field.required && !is_secret(field) && field.stored_value.is_empty() {
        violations.add(
            "stored_value",
            "must be set: the field is required and stored on the entry",
        );
    }
}

fn check_target(
    violations: &mut Violations,
    entry: &pb::Entry,
    credential_fields: &[String],
    field: &InstallField,
    taken: &mut Taken,
) {
    let self_hosted = !matches!(entry.server, Some(Server::Remote(_)));
    match &field.target {
        None => {
            let used = credential_fields.contains(&field.key)
                || entry
                    .additional_headers
                    .iter()
                    .any(|header| headers::names(header, &field.key));
            if !used {
                violations.add(
                    "target",
                    "must say where the value goes: environment_variable, mounted_file, header or argument; \
                     only secrets of the credential model and the values of additional headers have none",
                );
            }
        }
        Some(Target::EnvironmentVariable(target)) => {
            check_environment_variable(violations, "environment_variable.name", &target.name, taken);
            if !self_hosted {
                violations.add("environment_variable", REQUIRES_SELF_HOSTED);
            }
        }
        Some(Target::MountedFile(target)) => {
            if !is_path_below(&target.path) {
                violations.add("mounted_file.path", PATH_RULE);
            } else if taken.files.insert(target.path.clone(), ()).is_some() {
                violations.add("mounted_file.path", format!("{} is a duplicate", target.path));
            }
            let name = &target.path_environment_variable;
            if !name.is_empty() {
                check_environment_variable(violations, "mounted_file.path_environment_variable", name, taken);
            }
            if !self_hosted {
                violations.add("mounted_file", REQUIRES_SELF_HOSTED);
            }
        }
        // With the entry's other headers.
        Some(Target::Header(_)) => {
            if field.r#type() == InstallFieldType::File {
                violations.add("header", "a file cannot go to a header");
            }
        }
        Some(Target::Argument(target)) => {
            check_template(violations, &target.template);
            if is_secret(field) && !target.expose_in_arguments {
                violations.add(
                    "argument.expose_in_arguments",
                    "must be true for a secret: everybody who can list processes can read arguments",
                );
            }
            if !self_hosted {
                violations.add("argument", REQUIRES_SELF_HOSTED);
            }
        }
    }
}

fn check_environment_variable(violations: &mut Violations, path: &str, name: &str, taken: &mut Taken) {
    if !is_environment_variable(name) {
        violations.add(path, ENVIRONMENT_RULE);
    } else if taken.environment.insert(name.to_owned(), ()).is_some() {
        violations.add(path, format!("{name} is set twice"));
    }
}

fn check_template(violations: &mut Violations, template: &[String]) {
    if template.is_empty() {
        return;
    }
    let valid = template.len() <= MAX_TEMPLATE
        && template
            .iter()
            .all(|argument| argument.len() <= 8 << 10 && !argument.contains('\0'));
    if !valid {
        violations.add(
            "argument.template",
            format!("must have at most {MAX_TEMPLATE} arguments, without NUL"),
        );
    }
    if !template.iter().any(|argument| argument.contains("{value}")) {
        violations.add("argument.template", "must contain {value} where the value goes");
    }
}
