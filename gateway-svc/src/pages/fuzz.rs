//! Install forms as an attacker sends them.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Bytes;
use bolero::check;
use contracts::registry::{Entry, InstallField, InstallFieldType};
use secrecy::ExposeSecret as _;
use service_kit::fuzz::{ITERATIONS, weave};

use super::form::Submission;

const WORDS: [&str; 32] = [
    "state=",
    "scope=",
    "me",
    "teams/a",
    "confirm=yes",
    "value.",
    "secret.",
    "value.text=",
    "value.number=",
    "value.choice=",
    "value.switch=true",
    "secret.key=",
    "secret.file=",
    "&",
    "=",
    "%",
    "%00",
    "%0d%0a",
    "%C3%A9",
    "%ff",
    "+",
    "1e5",
    "-0",
    "1",
    "a",
    "one",
    "\r\n",
    ";",
    "%26",
    "%3D",
    "value.text=x&value.text=y",
    "%u0041",
];

fn entry() -> Entry {
    let field = |key: &str, kind: InstallFieldType, required| InstallField {
        key: key.to_owned(),
        r#type: kind.into(),
        required,
        options: vec!["one".to_owned(), "two".to_owned()],
        ..InstallField::default()
    };
    Entry {
        install_fields: vec![
            field("text", InstallFieldType::String, true),
            field("number", InstallFieldType::Number, false),
            field("choice", InstallFieldType::Select, false),
            field("switch", InstallFieldType::Boolean, false),
            field("key", InstallFieldType::Secret, true),
            field("file", InstallFieldType::File, false),
        ],
        ..Entry::default()
    }
}

#[test]
fn forms_are_read_as_form_urlencoded_and_only_known_fields_are_used() {
    let entry = entry();
    check!(name = "install_form")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            form(&entry, bytes);
            form(&entry, weave(bytes, &WORDS).as_bytes());
            form(
                &entry,
                format!("value.text=a&secret.key=b&{}", weave(bytes, &WORDS)).as_bytes(),
            );
        });
}

fn form(entry: &Entry, bytes: &[u8]) {
    // Where a name comes twice, the last one counts.
    let theirs: BTreeMap<String, String> = url::form_urlencoded::parse(bytes).into_owned().collect();
    let Some(mut submission) = Submission::parse(Bytes::copy_from_slice(bytes)) else {
        return;
    };
    let said = |name: &str| theirs.get(name).cloned().unwrap_or_default();
    assert_eq!(
        (submission.state.clone(), submission.scope.clone()),
        (said("state"), said("scope"))
    );
    assert_eq!(submission.confirm, theirs.contains_key("confirm"));
    match submission.check(entry, &BTreeSet::new()) {
        Ok(accepted) => {
            for (key, value) in &accepted.values {
                let field = entry
                    .install_fields
                    .iter()
                    .find(|field| field.key == *key)
                    .expect("it was asked for");
                match field.r#type() {
                    InstallFieldType::Number => assert!(value.parse::<f64>().is_ok(), "{value:?}"),
                    InstallFieldType::Select => assert!(field.options.contains(value)),
                    InstallFieldType::Boolean => assert!(value == "true" || value == "false"),
                    InstallFieldType::String => assert_eq!(*value, said(&format!("value.{key}"))),
                    other => panic!("{other:?} is no value"),
                }
            }
            for (key, secret) in &accepted.secrets {
                assert!(key == "key" || key == "file");
                assert_eq!(
                    secret.expose_secret(),
                    said(&format!("secret.{key}")).replace("\r\n", "\n")
                );
            }
            assert!(accepted.values.contains_key("text") && accepted.secrets.iter().any(|(key, _)| key == "key"));
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            // What is wrong is said without what was entered.
            let secret = said("secret.key");
            assert!(secret.len() < 12 || errors.fields.values().all(|error| !error.contains(&secret)));
        }
    }
}
