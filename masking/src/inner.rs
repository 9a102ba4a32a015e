//! The secrets in a secret that is JSON, such as the file of a service account, or has URLs: a server that parses it may write a part of it.

use serde_json::Value;
use zeroize::{Zeroize as _, Zeroizing};

use crate::userinfo::of_urls;

/// A shorter one is more often a word than a secret.
const SHORT_VALUE: usize = 8;
/// No more are looked for.
const MOST: usize = 1_000;

/// This member says what the object is, such as `service_account`: masked, it would change the names of tools.
const KIND: &str = "type";

/// The strings that are values in it, if it is a JSON object or array, and what URLs in it or in these have before the host.
pub(crate) fn secrets(secret: &str) -> Vec<Zeroizing<String>> {
    let mut found = values(secret);
    let in_urls: Vec<_> = match found[..] {
        [] => of_urls(secret),
        _ => found.iter().flat_map(|value| of_urls(value)).collect(),
    };
    found.extend(in_urls);
    found
}

/// The values of a JSON object or array that are strings. Names are none.
fn values(secret: &str) -> Vec<Zeroizing<String>> {
    let mut found = Vec::new();
    if !secret.starts_with(['{', '[']) {
        return found;
    }
    let Ok(json) = serde_json::from_str::<Value>(secret) else {
        return found;
    };
    let mut left = vec![json];
    while let Some(value) = left.pop() {
        match value {
            Value::String(text) => {
                let text = Zeroizing::new(text);
                if text.len() >= SHORT_VALUE && found.len() < MOST {
                    found.push(text);
                }
            }
            Value::Array(items) => left.extend(items),
            Value::Object(members) => {
                for (mut name, value) in members {
                    if name != KIND || !value.is_string() {
                        left.push(value);
                    }
                    name.zeroize();
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn finds_long_values_at_any_depth() {
        let of = |secret: &str| {
            let mut found: Vec<_> = values(secret).iter().map(|value| value.to_string()).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(
            of(
                r#"{"type":"service_account","private_key":"-----\nMIIE+\n","n":["short",{"deeper":"another one"}],"id":12345678}"#
            ),
            ["-----\nMIIE+\n", "another one"]
        );
        assert_eq!(of(r#""a string alone""#), [""; 0]);
        assert_eq!(of(r#"{"broken":"off it is"#), [""; 0]);
        let many = serde_json::to_string(&vec!["12345678"; MOST + 1]).unwrap();
        assert_eq!(of(&many).len(), MOST);
    }

    #[test]
    fn finds_the_passwords_in_urls() {
        for secret in [
            "postgres://app:hunter2-Passw0rd@db.corp/x",
            r#"{"n":1,"db":{"url":"postgres://app:hunter2-Passw0rd@db.corp/x"}}"#,
        ] {
            let found = secrets(secret);
            assert!(
                found.iter().any(|found| found.as_str() == "hunter2-Passw0rd"),
                "{secret}"
            );
        }
        assert!(secrets("hunter2-Passw0rd").is_empty());
    }
}
