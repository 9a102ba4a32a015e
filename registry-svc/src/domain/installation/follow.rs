//! What happens to an installation when its entry changes: it follows by itself as long as that needs no new input.

use contracts::registry::{InstallField, ReinstallRequired};
use registry_model::install_fields::{is_prompted, is_secret, title};

use super::values::Values;
use crate::domain::entry::{EntrySpec, check_value};

/// What to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Go on with these values at the new revision.
    Move {
        /// Those of the old ones that the new revision has fields for.
        values: Values,
        /// Whether something else is to run now, or other headers go out.
        runs_differently: bool,
    },
    /// Stay at the old revision until the owner has provided what is missing.
    Hold(ReinstallRequired),
}

/// Decides for an installation that runs `running` and has `values`.
pub(crate) fn follow(running: &EntrySpec, next: &EntrySpec, values: &Values) -> Step {
    let missing: Vec<&InstallField> = next
        .message()
        .install_fields
        .iter()
        .filter(|field| is_missing(running, field, values))
        .collect();
    let invalid: Vec<&InstallField> = next
        .message()
        .install_fields
        .iter()
        .filter(|field| is_invalid(next, field, values))
        .collect();
    if missing.is_empty() && invalid.is_empty() {
        let values = values
            .iter()
            .filter(|(key, _)| {
                next.field(key)
                    .is_some_and(|field| is_prompted(field) && !is_secret(field))
            })
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        return Step::Move {
            values,
            runs_differently: !running.runs_as(next),
        };
    }
    let reason = if missing.is_empty() {
        "VALUE_INVALID"
    } else {
        "FIELD_REQUIRED"
    };
    let (requires, outgrown) = (!missing.is_empty(), !invalid.is_empty());
    let secret = missing.iter().any(|field| is_secret(field));
    let mut fields: Vec<String> = Vec::new();
    let mut titles: Vec<&str> = Vec::new();
    for field in missing.into_iter().chain(invalid) {
        if !fields.contains(&field.key) {
            fields.push(field.key.clone());
            titles.push(title(field));
        }
    }
    let titles = titles.join(", ");
    let what = match (requires, outgrown) {
        // A secret is checked against the fields of the revision that runs: it cannot be stored before the installation has moved.
        (true, false) if secret => format!("requires {titles}: update the installation, then put what is secret"),
        (true, false) => format!("requires {titles}: update the installation with a value for each"),
        (false, _) => format!("no longer accepts the values of: {titles}. Update the installation with others"),
        (true, true) => format!("requires other values of: {titles}. Update the installation with them"),
    };
    let message = format!("the entry has changed and {what}; until then, the installation runs as before");
    Step::Hold(ReinstallRequired {
        reason: reason.to_owned(),
        message,
        fields,
    })
}

/// Whether the field must be provided and was not. Of a secret it is known only whether it was asked for before.
fn is_missing(running: &EntrySpec, field: &InstallField, values: &Values) -> bool {
    if !field.required || !is_prompted(field) {
        return false;
    }
    if is_secret(field) {
        return !running
            .field(&field.key)
            .is_some_and(|old| is_secret(old) && is_prompted(old) && old.required);
    }
    field.default_value.is_empty() && !values.contains_key(&field.key)
}

fn is_invalid(next: &EntrySpec, field: &InstallField, values: &Values) -> bool {
    is_prompted(field)
        && !is_secret(field)
        && values
            .get(&field.key)
            .is_some_and(|value| check_value(field, value, next.goes_to_header(field)).is_err())
}

#[cfg(test)]
mod tests {
    use contracts::registry as pb;
    use pb::InstallFieldType;

    use super::*;

    fn spec(fields: &[(&str, InstallFieldType, bool)]) -> EntrySpec {
        let install_fields = fields
            .iter()
            .map(|&(key, kind, required)| InstallField {
                key: key.to_owned(),
                r#type: kind.into(),
                required,
                ..Default::default()
            })
            .collect();
        EntrySpec::from_stored(pb::Entry {
            install_fields,
            ..Default::default()
        })
    }

    fn values(values: &[(&str, &str)]) -> Values {
        values
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    const STRING: InstallFieldType = InstallFieldType::String;
    const SECRET: InstallFieldType = InstallFieldType::Secret;

    fn held(step: Step) -> (String, Vec<String>) {
        match step {
            Step::Hold(held) => (held.reason, held.fields),
            Step::Move { .. } => panic!("moved"),
        }
    }

    #[test]
    fn moves_without_asking_for_a_secret_again() {
        let running = spec(&[("token", SECRET, true), ("a", STRING, false)]);
        let mut next = running.message().clone();
        next.description = "new words".to_owned();
        let next = EntrySpec::from_stored(next);
        let step = follow(&running, &next, &values(&[("a", "1")]));
        assert_eq!(
            step,
            Step::Move {
                values: values(&[("a", "1")]),
                runs_differently: false
            }
        );
        let next = spec(&[("token", SECRET, true), ("b", STRING, false)]);
        let step = follow(&running, &next, &values(&[("a", "1")]));
        assert_eq!(
            step,
            Step::Move {
                values: Values::new(),
                runs_differently: true
            }
        );
    }

    #[test]
    fn holds_where_something_new_is_required() {
        let running = spec(&[("maybe", SECRET, false)]);
        let next = spec(&[
            ("token", SECRET, true),
            ("a", STRING, true),
            ("b", STRING, false),
            ("maybe", SECRET, true),
        ]);
        let (reason, fields) = held(follow(&running, &next, &Values::new()));
        assert_eq!(
            (reason.as_str(), fields.as_slice()),
            ("FIELD_REQUIRED", ["token", "a", "maybe"].map(String::from).as_slice())
        );
    }

    #[test]
    fn a_default_is_enough_for_what_is_no_secret() {
        let mut next = spec(&[("a", STRING, true)]).message().clone();
        next.install_fields[0].default_value = "x".to_owned();
        let step = follow(&spec(&[]), &EntrySpec::from_stored(next), &Values::new());
        assert!(matches!(
            step,
            Step::Move {
                runs_differently: true,
                ..
            }
        ));
    }

    #[test]
    fn holds_where_a_value_no_longer_fits() {
        let running = spec(&[("a", STRING, true)]);
        let next = spec(&[("a", InstallFieldType::Number, true)]);
        let (reason, fields) = held(follow(&running, &next, &values(&[("a", "x")])));
        assert_eq!(
            (reason.as_str(), fields.as_slice()),
            ("VALUE_INVALID", ["a".to_owned()].as_slice())
        );
        assert!(matches!(
            follow(&running, &next, &values(&[("a", "2")])),
            Step::Move { .. }
        ));
    }
}
