//! The account that a token is for, as people know it.

use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;

use super::{fields::Fields, text::readable};

const MAX_ACCOUNT: usize = 200;

/// From an ID token that came directly from the token endpoint. Its signature is not verified, which OpenID Connect Core 1.0, section 3.1.3.7,
/// permits there; nothing but what is shown depends on it.
pub(super) fn account(id_token: &str) -> Option<String> {
    let claims = id_token.split('.').nth(1)?.trim_end_matches('=');
    let claims = Fields::parse(&BASE64URL_NOPAD.decode(claims.as_bytes()).ok()?)?;
    let names = ["email", "preferred_username", "name", "sub"].into_iter();
    let texts = names.filter_map(|name| claims.get(name).and_then(Value::as_str));
    texts
        .map(|text| readable(text, MAX_ACCOUNT))
        .find(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn takes_what_people_know_best() {
        let of = |claims: Value| {
            account(&format!(
                "e30.{}.",
                BASE64URL_NOPAD.encode(claims.to_string().as_bytes())
            ))
        };
        let some = |text: &str| Some(text.to_owned());
        let all = json!({"sub": "1", "name": "Alice", "preferred_username": "al", "email": "al@example.com"});
        assert_eq!(of(all), some("al@example.com"));
        assert_eq!(
            of(json!({"sub": "1", "name": "Al\u{202e}ice\n", "email": "\u{200b}"})),
            some("Alice")
        );
        assert_eq!(of(json!({"sub": "1", "email": ["al@example.com"]})), some("1"));
        assert_eq!(of(json!({"sub": "x".repeat(5_000)})), some(&"x".repeat(200)));
        assert_eq!(of(json!({})), None);
        for token in ["", "a", "a.b.c", "e30.bm8.", "é.é.é"] {
            assert_eq!(account(token), None);
        }
    }
}
