//! Which values a field accepts.

use std::{collections::BTreeSet, sync::Arc};

use secrecy::{ExposeSecret as _, SecretString};
use service_kit::status::Violations;

use super::{
    owner::Source,
    plan::{Plan, SecretField, Target},
    record::{Field, Record},
};

/// The longest secret (bytes).
pub(crate) const MAX_SECRET: usize = 64 * 1024;

/// Adds everything that is wrong with `values` for `plan`. Neither values nor unknown keys are repeated: a secret may
/// have been typed in the wrong place.
pub(crate) fn check(plan: &Plan, source: Source, values: &[(String, SecretString)], violations: &mut Violations) {
    if values.is_empty() {
        violations.add("values", "must hold at least one value");
    }
    let mut seen = BTreeSet::new();
    for (index, (key, value)) in values.iter().enumerate() {
        if !seen.insert(key) {
            violations.add(format!("values[{index}].key"), "is a duplicate");
        }
        let path = format!("values[{index}].value");
        let length = value.expose_secret().len();
        let Some(field) = plan.field(key, source) else {
            violations.add(format!("values[{index}].key"), unknown(plan, source));
            continue;
        };
        if !(1..=MAX_SECRET).contains(&length) {
            violations.add(
                path,
                format!("the value of `{key}` must have 1 byte to 64 KiB; it has {length} bytes"),
            );
        } else if let Some(must) = misfit(plan, field, value) {
            violations.add(path, format!("the value of `{key}` {must}"));
        }
    }
}

/// Why a value cannot go where its field sends it; `None` if it can.
pub(crate) fn misfit(plan: &Plan, field: &SecretField, value: &SecretString) -> Option<&'static str> {
    let value = value.expose_secret();
    if plan.is_header(field) && !fits_header(value) {
        return Some(
            "is sent in a header: it must be visible ASCII, with spaces and tabs only between other characters",
        );
    }
    if matches!(field.target, Target::Environment(_) | Target::Argument) && value.contains('\0') {
        return Some("must not contain a NUL byte");
    }
    None
}

/// The record without the values that cannot go where the plan sends them: a field may have got another target since its value was
/// put. It counts as missing.
pub(crate) fn fitting(plan: &Plan, source: Source, mut record: Record) -> Record {
    record.fields.retain(|key, kept| fits(plan, source, key, kept));
    record
}

/// The same of a record that others use, too.
pub(crate) fn fitting_shared(plan: &Plan, source: Source, record: Arc<Record>) -> Arc<Record> {
    match record.fields.iter().all(|(key, kept)| fits(plan, source, key, kept)) {
        true => record,
        false => Arc::new(fitting(plan, source, Record::clone(&record))),
    }
}

fn fits(plan: &Plan, source: Source, key: &str, kept: &Field) -> bool {
    let field = plan.field(key, source);
    field.is_none_or(|field| misfit(plan, field, &kept.value).is_none())
}

/// Names the keys that there are, and says how a newer one comes to be known.
fn unknown(plan: &Plan, source: Source) -> String {
    let keys: Vec<&str> = plan
        .fields
        .iter()
        .filter(|field| field.source == source)
        .map(|field| field.key.as_str())
        .collect();
    let keys = if keys.is_empty() {
        "none".to_owned()
    } else {
        keys.join(", ")
    };
    match source {
        Source::Prompted => format!(
            "must be the key of a secret field of the entry revision that the installation runs; there are: {keys}. If the entry has \
             changed since, first update the installation (UpdateInstallation), then put the secret"
        ),
        Source::Stored => format!("must be the key of a secret field that is stored on the entry; there are: {keys}"),
    }
}

/// RFC 9110, section 5.5, without obsolete bytes.
fn fits_header(value: &str) -> bool {
    let bytes = value.as_bytes();
    let visible = |byte: &u8| (0x21..=0x7e).contains(byte);
    bytes.iter().all(|byte| visible(byte) || matches!(byte, b' ' | b'\t'))
        && bytes.first().is_some_and(visible)
        && bytes.last().is_some_and(visible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_told_the_keys_that_there_are() {
        let field = |key: &str, source| SecretField {
            key: key.to_owned(),
            title: key.to_owned(),
            required: true,
            source,
            target: Target::Environment("KEY".to_owned()),
        };
        let plan = Plan {
            destination: None,
            fields: vec![field("token", Source::Prompted), field("shared", Source::Stored)],
            primary: None,
            tokens: None,
        };
        let mut violations = Violations::new();
        let mistyped = [("canary-5521".to_owned(), SecretString::from("value"))];
        check(&plan, Source::Prompted, &mistyped, &mut violations);
        let (field, why) = violations.iter().next().expect("a violation");
        assert_eq!(field, "values[0].key");
        assert!(
            why.contains("there are: token. ") && why.contains("UpdateInstallation"),
            "{why}"
        );
        assert!(!why.contains("shared") && !why.contains("canary"), "{why}");
    }
}
