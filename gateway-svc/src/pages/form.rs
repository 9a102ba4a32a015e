//! The install form as it comes back: parsed, and checked against the entry's install fields. Everything that is wrong is
//! found at once.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Bytes;
use contracts::registry::{Entry, InstallField, InstallFieldType};
use registry_model::install_fields::{is_prompted, is_secret, title};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroize as _;

use crate::sentence::as_sentence;

/// What the services take.
const MAX_VALUE: usize = 8 * 1024;
const MAX_SECRET: usize = 64 * 1024;

/// An entry has 64 install fields.
const MAX_FIELDS: usize = 256;

/// What was submitted.
#[derive(Debug, Default)]
pub(super) struct Submission {
    /// The sealed state.
    pub(super) state: String,
    /// `me` or `teams/{team}`.
    pub(super) scope: String,
    /// Whether they agreed to the changed destination.
    pub(super) confirm: bool,
    /// What was entered into fields that are no secrets.
    pub(super) values: BTreeMap<String, String>,
    secrets: BTreeMap<String, SecretString>,
}

/// What can be sent to the services.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    /// Of fields that are no secrets.
    pub(super) values: BTreeMap<String, String>,
    /// What was entered into secret fields, by key.
    pub(super) secrets: Vec<(String, SecretString)>,
}

/// What is wrong, by install field; and what concerns none of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Errors {
    pub(super) fields: BTreeMap<String, String>,
    pub(super) general: Vec<String>,
}

impl Errors {
    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.general.is_empty()
    }

    /// One that concerns no field.
    pub(super) fn general(text: impl Into<String>) -> Self {
        Self {
            general: vec![text.into()],
            ..Self::default()
        }
    }
}

impl Submission {
    /// Parses a form, and wipes what it was parsed from. `None`: it has more fields than an install form.
    pub(super) fn parse(body: Bytes) -> Option<Self> {
        let mut submission = Self::default();
        let mut fields = 0;
        for (name, value) in url::form_urlencoded::parse(&body) {
            fields += 1;
            if fields > MAX_FIELDS {
                break;
            }
            let value = value.into_owned();
            if let Some(key) = name.strip_prefix("secret.") {
                submission.secrets.insert(key.to_owned(), SecretString::from(value));
            } else if let Some(key) = name.strip_prefix("value.") {
                submission.values.insert(key.to_owned(), value);
            } else {
                match name.as_ref() {
                    "state" => submission.state = value,
                    "scope" => submission.scope = value,
                    "confirm" => submission.confirm = true,
                    _ => {}
                }
            }
        }
        if let Ok(mut body) = body.try_into_mut() {
            body.as_mut().zeroize();
        }
        (fields <= MAX_FIELDS).then_some(submission)
    }

    /// Checks against the entry. `stored` are the secret fields that hold a value already: leaving them empty keeps it.
    pub(super) fn check(&mut self, entry: &Entry, stored: &BTreeSet<String>) -> Result<Accepted, Errors> {
        let mut errors = Errors::default();
        let mut accepted = Accepted::default();
        for field in prompted(entry) {
            let result = if is_secret(field) {
                self.secret(field, stored).map(|secret| {
                    accepted
                        .secrets
                        .extend(secret.map(|secret| (field.key.clone(), secret)));
                })
            } else {
                self.value(field).map(|value| {
                    accepted.values.extend(value.map(|value| (field.key.clone(), value)));
                })
            };
            if let Err(error) = result {
                errors.fields.insert(field.key.clone(), error);
            }
        }
        if errors.is_empty() { Ok(accepted) } else { Err(errors) }
    }

    fn secret(&mut self, field: &InstallField, stored: &BTreeSet<String>) -> Result<Option<SecretString>, String> {
        let secret = self
            .secrets
            .remove(&field.key)
            .filter(|secret| !secret.expose_secret().is_empty());
        let Some(secret) = secret else {
            let missing = field.required && !stored.contains(&field.key);
            return if missing {
                Err(format!("Enter {}.", title(field)))
            } else {
                Ok(None)
            };
        };
        // Browsers send the lines of a text area with CR LF, whatever was pasted.
        let secret = if secret.expose_secret().contains("\r\n") {
            SecretString::from(secret.expose_secret().replace("\r\n", "\n"))
        } else {
            secret
        };
        if secret.expose_secret().len() > MAX_SECRET {
            return Err(format!("{} is too long: at most 64 KiB are taken.", title(field)));
        }
        Ok(Some(secret))
    }

    fn value(&self, field: &InstallField) -> Result<Option<String>, String> {
        let entered = self.values.get(&field.key).map(String::as_str).unwrap_or_default();
        if field.r#type() == InstallFieldType::Boolean {
            return Ok(Some((entered == "true").to_string()));
        }
        let number = field.r#type() == InstallFieldType::Number;
        let entered = if number { entered.trim() } else { entered };
        if entered.is_empty() {
            let missing = field.required && field.default_value.is_empty();
            let verb = if field.r#type() == InstallFieldType::Select {
                "Choose"
            } else {
                "Enter"
            };
            return if missing {
                Err(format!("{verb} {}.", title(field)))
            } else {
                Ok(None)
            };
        }
        if entered.len() > MAX_VALUE {
            return Err(format!("{} is too long: at most 8 KiB are taken.", title(field)));
        }
        if number && serde_json::from_str::<serde_json::Number>(entered).is_err() {
            return Err(format!("{} must be a number, such as 10 or 2.5.", title(field)));
        }
        if field.r#type() == InstallFieldType::Select && !field.options.iter().any(|option| option == entered) {
            return Err(format!("Choose one of the options for {}.", title(field)));
        }
        Ok(Some(entered.to_owned()))
    }
}

/// The fields that the person who installs fills in.
pub(super) fn prompted(entry: &Entry) -> impl Iterator<Item = &InstallField> {
    entry.install_fields.iter().filter(|field| is_prompted(field))
}

/// Sorts what a service said of request fields to the install fields they belong to. `sent` are the keys of the secrets in
/// the order in which they were sent.
pub(super) fn sort_violations(violations: Vec<(String, String)>, entry: &Entry, sent: &[String]) -> Errors {
    let mut errors = Errors::default();
    for (path, description) in violations {
        let key = path.rsplit_once("values").and_then(|(_, rest)| key_of(rest, sent));
        let field = key.and_then(|key| prompted(entry).find(|field| field.key == key));
        let sentence = as_sentence(&description);
        match field {
            Some(field) => {
                errors
                    .fields
                    .entry(field.key.clone())
                    .or_insert_with(|| format!("{}: {sentence}", title(field)));
            }
            None => errors.general.push(as_sentence(&format!("{path}: {description}"))),
        }
    }
    errors
}

/// The key in `[2].value`, `["key"]`, `[key]` or `.key`: what follows `values` in a field path.
fn key_of<'a>(rest: &'a str, sent: &'a [String]) -> Option<&'a str> {
    if let Some(inside) = rest.strip_prefix('[') {
        let inside = inside.split(']').next()?;
        return match inside.parse::<usize>() {
            Ok(index) => sent.get(index).map(String::as_str),
            Err(_) => Some(inside.trim_matches(['"', '\''])),
        };
    }
    rest.strip_prefix('.')
}

#[cfg(test)]
mod tests {
    use contracts::registry::InstallFieldSource;
    use pretty_assertions::assert_eq;

    use super::*;

    fn field(key: &str, kind: InstallFieldType, required: bool) -> InstallField {
        InstallField {
            key: key.to_owned(),
            r#type: kind.into(),
            required,
            ..InstallField::default()
        }
    }

    fn entry() -> Entry {
        let install_fields = vec![
            field("token", InstallFieldType::Secret, true),
            field("cert", InstallFieldType::File, false),
            field("region", InstallFieldType::String, true),
            field("limit", InstallFieldType::Number, false),
            field("beta", InstallFieldType::Boolean, true),
            InstallField {
                options: vec!["a".into(), "b".into()],
                ..field("plan", InstallFieldType::Select, false)
            },
            InstallField {
                source: InstallFieldSource::Stored.into(),
                ..field("kept", InstallFieldType::Secret, true)
            },
        ];
        Entry {
            install_fields,
            ..Entry::default()
        }
    }

    fn check(form: &str, stored: &[&str]) -> Result<Accepted, Errors> {
        let stored = stored.iter().map(|&key| key.to_owned()).collect();
        Submission::parse(Bytes::from(form.to_owned()))
            .expect("it has few fields")
            .check(&entry(), &stored)
    }

    #[test]
    fn takes_what_fits() {
        let accepted =
            check("secret.token=t%26t&secret.cert=a%0D%0Ab&value.region=eu&value.limit=+2.5+&value.beta=true&value.plan=b&value.odd=x", &[]).unwrap();
        let values: Vec<_> = accepted
            .values
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            values,
            [("beta", "true"), ("limit", "2.5"), ("plan", "b"), ("region", "eu")]
        );
        let secrets: Vec<_> = accepted
            .secrets
            .iter()
            .map(|(key, value)| (key.as_str(), value.expose_secret()))
            .collect();
        assert_eq!(secrets, [("token", "t&t"), ("cert", "a\nb")]);
    }

    #[test]
    fn finds_everything_that_is_wrong_at_once() {
        let long = "x".repeat(MAX_SECRET + 1);
        let errors = check(&format!("secret.cert={long}&value.limit=ten&value.plan=c"), &[]).unwrap_err();
        assert_eq!(
            errors.fields.keys().collect::<Vec<_>>(),
            ["cert", "limit", "plan", "region", "token"]
        );
    }

    #[test]
    fn keeps_a_stored_secret_that_is_left_empty() {
        let accepted = check("secret.token=&value.region=eu", &["token"]).unwrap();
        assert!(accepted.secrets.is_empty());
        assert_eq!(accepted.values["beta"], "false");
    }

    #[test]
    fn sorts_what_services_say_to_the_fields() {
        let sent = ["cert".to_owned(), "token".to_owned()];
        let say = |path: &str| (path.to_owned(), "must be shorter".to_owned());
        for (path, key) in [
            ("values[1].value", "token"),
            ("installation.values[region]", "region"),
            ("installation.values[\"limit\"]", "limit"),
            ("installation.values.plan", "plan"),
        ] {
            let errors = sort_violations(vec![say(path)], &entry(), &sent);
            assert_eq!(errors.fields.keys().collect::<Vec<_>>(), [key], "{path}");
        }
        let errors = sort_violations(vec![say("values[7].value"), say("installation.entry")], &entry(), &sent);
        assert_eq!((errors.fields.len(), errors.general.len()), (0, 2));
    }
}
