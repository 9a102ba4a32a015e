//! The values that the person who installs enters.

use std::collections::BTreeMap;

use registry_model::install_fields::{is_prompted, is_secret};
use service_kit::status::Violations;

use crate::domain::entry::{EntrySpec, check_value};

/// Values by field key. Sorted, so that they are always written alike.
pub(crate) type Values = BTreeMap<String, String>;

/// Checks what was entered against the entry; an empty value counts as none. Paths begin with `installation`.
pub(crate) fn check(
    spec: &EntrySpec,
    entered: impl IntoIterator<Item = (String, String)>,
) -> Result<Values, Violations> {
    let values: Values = entered.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let mut violations = Violations::new();
    for (key, value) in &values {
        if let Some(wrong) = wrong_value(spec, key, value) {
            violations.add(path(key), wrong);
        }
    }
    for field in &spec.message().install_fields {
        let missing = field.required
            && is_prompted(field)
            && !is_secret(field)
            && field.default_value.is_empty()
            && !values.contains_key(&field.key);
        if missing {
            violations.add(path(&field.key), "must be given: the entry requires it");
        }
    }
    violations.into_result(values)
}

fn path(key: &str) -> String {
    format!("installation.values[{key}]")
}

fn wrong_value(spec: &EntrySpec, key: &str, value: &str) -> Option<String> {
    let Some(field) = spec.field(key) else {
        return Some("is not an install field of the entry".to_owned());
    };
    if is_secret(field) {
        let what = if is_prompted(field) {
            "PutInstallationCredential"
        } else {
            "PutEntryCredential"
        };
        return Some(format!(
            "is a secret, which the registry does not accept: send it to the credential service ({what})"
        ));
    }
    if !is_prompted(field) {
        return Some("is stored on the entry; installations do not set it".to_owned());
    }
    check_value(field, value, spec.goes_to_header(field)).err()
}

#[cfg(test)]
mod tests {
    use contracts::registry as pb;
    use pb::{InstallField, InstallFieldSource, InstallFieldType};

    use super::*;

    fn spec() -> EntrySpec {
        let field = |key: &str, kind: InstallFieldType, required| InstallField {
            key: key.to_owned(),
            r#type: kind.into(),
            required,
            ..Default::default()
        };
        let mut stored = field("stored", InstallFieldType::String, true);
        stored.source = InstallFieldSource::Stored.into();
        let mut default = field("default", InstallFieldType::Number, true);
        default.default_value = "1".to_owned();
        EntrySpec::from_stored(pb::Entry {
            install_fields: vec![
                field("needed", InstallFieldType::String, true),
                field("flag", InstallFieldType::Boolean, false),
                field("token", InstallFieldType::Secret, true),
                stored,
                default,
            ],
            ..Default::default()
        })
    }

    fn entered(values: &[(&str, &str)]) -> Result<Vec<String>, Vec<String>> {
        let values = values.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
        match check(&spec(), values) {
            Ok(values) => Ok(values.into_keys().collect()),
            Err(violations) => Err(violations.iter().map(|(field, _)| field.to_owned()).collect()),
        }
    }

    #[test]
    fn takes_what_the_entry_asks_for() {
        assert_eq!(entered(&[("needed", "x")]).unwrap(), ["needed"]);
        assert_eq!(
            entered(&[("needed", "x"), ("flag", "true"), ("default", "2")]).unwrap(),
            ["default", "flag", "needed"]
        );
    }

    #[test]
    fn names_everything_that_is_wrong() {
        let wrong = entered(&[
            ("flag", "maybe"),
            ("token", "s3cret"),
            ("stored", "x"),
            ("other", "x"),
            ("needed", ""),
        ]);
        assert_eq!(
            wrong.unwrap_err(),
            ["flag", "other", "stored", "token", "needed"].map(path)
        );
    }

    #[test]
    fn says_where_a_secret_belongs_without_repeating_it() {
        let values = [
            ("needed".to_owned(), "x".to_owned()),
            ("token".to_owned(), "s3cret".to_owned()),
        ];
        let wrong = check(&spec(), values).unwrap_err();
        let (_, description) = wrong.iter().next().unwrap();
        assert!(
            description.contains("PutInstallationCredential") && !description.contains("s3cret"),
            "{description}"
        );
    }
}
