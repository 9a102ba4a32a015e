//! Rules for install fields: which are secrets, who provides the value, where it is sent, and which title people see.

use std::collections::HashMap;

use contracts::registry::{InstallField, InstallFieldSource, InstallFieldType, install_field::Target};

/// Whether the field's value is a secret, which only credential-svc stores.
pub fn is_secret(field: &InstallField) -> bool {
    matches!(field.r#type(), InstallFieldType::Secret | InstallFieldType::File)
}

/// Whether the installing person provides the value. Otherwise, an admin provides it once for all installations of the
/// entry. A source that is not set means the person.
pub fn is_prompted(field: &InstallField) -> bool {
    field.source() != InstallFieldSource::Stored
}

/// Whether the server itself receives the value, when it starts. The gateway sends other values in headers, with each
/// request.
pub fn is_for_server(field: &InstallField) -> bool {
    matches!(
        field.target,
        Some(Target::EnvironmentVariable(_) | Target::MountedFile(_) | Target::Argument(_))
    )
}

/// Whether the server itself receives secrets. If so, it cannot start before they are stored.
pub fn server_requires_secrets(fields: &[InstallField]) -> bool {
    fields.iter().any(|field| is_secret(field) && is_for_server(field))
}

/// Whether some secrets are stored on the entry, for all of its installations.
pub fn has_stored_secrets(fields: &[InstallField]) -> bool {
    fields.iter().any(|field| is_secret(field) && !is_prompted(field))
}

/// The value of a non-secret field that the entry provides: the stored one or the default. Empty if there is none.
pub fn entry_value(field: &InstallField) -> &str {
    if is_prompted(field) || field.stored_value.is_empty() {
        &field.default_value
    } else {
        &field.stored_value
    }
}

/// The value of a non-secret field in an installation with these values; `None` if there is none.
pub fn value<'a>(field: &'a InstallField, values: &'a HashMap<String, String>) -> Option<&'a str> {
    let own = values.get(&field.key).filter(|_| is_prompted(field));
    own.map(String::as_str)
        .filter(|value| !value.is_empty())
        .or(Some(entry_value(field)))
        .filter(|value| !value.is_empty())
}

/// The title that people see; the key if the field has none.
pub fn title(field: &InstallField) -> &str {
    if field.title.is_empty() {
        &field.key
    } else {
        &field.title
    }
}

#[cfg(test)]
mod tests {
    use contracts::registry::{ArgumentTarget, EnvironmentVariableTarget, HeaderTarget, MountedFileTarget};

    use super::*;

    fn field(kind: InstallFieldType, source: InstallFieldSource, target: Option<Target>) -> InstallField {
        InstallField {
            key: "key".to_owned(),
            r#type: kind.into(),
            source: source.into(),
            target,
            ..InstallField::default()
        }
    }

    #[test]
    fn files_are_secrets_too() {
        use InstallFieldType::{Boolean, File, Number, Secret, Select, String, Unspecified};
        for (kind, secret) in [
            (Secret, true),
            (File, true),
            (String, false),
            (Number, false),
            (Boolean, false),
            (Select, false),
            (Unspecified, false),
        ] {
            let field = field(kind, InstallFieldSource::Prompted, None);
            assert_eq!(is_secret(&field), secret, "{kind:?}");
        }
    }

    #[test]
    fn a_field_without_a_source_is_prompted() {
        use InstallFieldSource::{Prompted, Stored, Unspecified};
        for (source, prompted) in [(Unspecified, true), (Prompted, true), (Stored, false)] {
            let field = field(InstallFieldType::String, source, None);
            assert_eq!(is_prompted(&field), prompted, "{source:?}");
        }
    }

    #[test]
    fn only_header_fields_are_not_for_the_server() {
        let secret = |target| [field(InstallFieldType::Secret, InstallFieldSource::Stored, target)];
        for target in [
            Target::EnvironmentVariable(EnvironmentVariableTarget::default()),
            Target::MountedFile(MountedFileTarget::default()),
            Target::Argument(ArgumentTarget::default()),
        ] {
            let fields = secret(Some(target));
            assert!(
                is_for_server(&fields[0]) && server_requires_secrets(&fields),
                "{fields:?}"
            );
        }
        for target in [None, Some(Target::Header(HeaderTarget::default()))] {
            let fields = secret(target);
            assert!(
                !is_for_server(&fields[0]) && !server_requires_secrets(&fields),
                "{fields:?}"
            );
        }
    }

    #[test]
    fn stored_secrets_are_those_of_the_entry() {
        use InstallFieldSource::{Prompted, Stored};
        let has = |kind, source| has_stored_secrets(&[field(kind, source, None)]);
        assert!(has(InstallFieldType::File, Stored));
        assert!(!has(InstallFieldType::File, Prompted));
        assert!(!has(InstallFieldType::String, Stored));
    }

    #[test]
    fn the_persons_value_precedes_the_entrys() {
        let given = HashMap::from([("key".to_owned(), "given".to_owned())]);
        let emptied = HashMap::from([("key".to_owned(), String::new())]);
        let nothing = HashMap::new();
        let mut prompted = field(InstallFieldType::String, InstallFieldSource::Prompted, None);
        assert_eq!(
            (value(&prompted, &given), value(&prompted, &nothing)),
            (Some("given"), None)
        );
        prompted.default_value = "default".to_owned();
        prompted.stored_value = "not read".to_owned();
        assert_eq!(value(&prompted, &nothing), Some("default"));
        assert_eq!(value(&prompted, &emptied), Some("default"));
        let mut stored = field(InstallFieldType::String, InstallFieldSource::Stored, None);
        stored.stored_value = "stored".to_owned();
        assert_eq!(value(&stored, &given), Some("stored"), "installations do not set it");
        stored.stored_value.clear();
        stored.default_value = "default".to_owned();
        assert_eq!(entry_value(&stored), "default");
    }

    #[test]
    fn a_title_is_never_empty() {
        let mut field = field(InstallFieldType::String, InstallFieldSource::Prompted, None);
        assert_eq!(title(&field), "key");
        field.title = "API key".to_owned();
        assert_eq!(title(&field), "API key");
    }
}
