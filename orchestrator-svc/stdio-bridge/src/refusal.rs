//! Removes secrets from the errors that a server answers with.
//!
//! People who may not know the secrets see errors: the gateway's log and the conditions of an installation quote them. A result is for its
//! caller only, who asked for this content, and is passed on as it is.

use serde_json::{Map, Value};

use crate::redact::Redactor;

/// The error cannot be read: it is nested too deeply, or its text is not Unicode.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// What the caller is told instead of such an error.
pub(crate) const UNREADABLE: &str = "The MCP server refused the request, with an error that cannot be read: it is nested too deeply, or its text is not Unicode.";

/// The error (JSON) with its secrets masked; `None` if it has none.
pub(crate) fn masked(error: &str, redactor: &Redactor) -> Result<Option<String>, Unreadable> {
    // Secrets are looked for in each string, since JSON has several spellings of one.
    let mut error = serde_json::from_str(error).map_err(|_| Unreadable)?;
    Ok(mask(&mut error, redactor).then(|| error.to_string()))
}

/// Masks each string; returns whether there was one to mask.
fn mask(value: &mut Value, redactor: &Redactor) -> bool {
    match value {
        Value::String(text) => match redactor.mask(text) {
            Some(masked) => {
                *text = masked;
                true
            }
            None => false,
        },
        Value::Array(items) => items.iter_mut().fold(false, |any, item| mask(item, redactor) | any),
        Value::Object(members) => {
            let mut any = false;
            let masked = std::mem::take(members).into_iter().map(|(name, mut value)| {
                any |= mask(&mut value, redactor);
                let masked = redactor.mask(&name);
                any |= masked.is_some();
                (masked.unwrap_or(name), value)
            });
            *members = masked.collect::<Map<_, _>>();
            any
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    #[test]
    fn masks_every_string_of_an_error_and_nothing_else() {
        let redactor = Redactor::new(["s3cr3t-\"canary"]);
        let error = r#"{"code": -1,"message":"401 for s3cr3t-\u0022ca\u0000nary","data":[{"s3cr3t-\"canary":1.50}]}"#;
        let masked = masked(error, &redactor).unwrap().unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&masked).unwrap(),
            json!({"code": -1, "message": "401 for [redacted]", "data": [{"[redacted]": 1.5}]})
        );
        assert_eq!(
            super::masked(r#"{"code": -1,"message":"no\ncanary"}"#, &redactor),
            Ok(None)
        );
    }

    #[test]
    fn an_error_that_cannot_be_read_is_not_passed_on() {
        let redactor = Redactor::new(["s3cr3t-canary"]);
        let deep = format!("{}\"s3cr3t-canary\"{}", "[".repeat(1000), "]".repeat(1000));
        for error in [deep.as_str(), r#""s3cr3t-canary\ud800""#] {
            assert_eq!(masked(error, &redactor), Err(Unreadable));
        }
    }
}
