//! Masking a JSON text.

use std::borrow::Cow;

use crate::LONG;

/// A string of the JSON cannot be read: it has no end, or an escape in it is no character, such as one half of a surrogate pair.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable;

/// The JSON with each string replaced for which `mask` returns another, also the names of members, and each number, by a string; `None` if there is none.
/// `mask` gets what a string means, since JSON has several spellings of one, and the length of the shortest secret to mask: `shortest`, and in a number at least
/// [`LONG`], since a number that is no secret must remain one. All else is kept, byte for byte. The text may be nested to any depth.
///
/// # Errors
/// If a string cannot be read.
pub fn mask_json(
    json: &str,
    shortest: usize,
    mut mask: impl FnMut(&str, usize) -> Option<String>,
) -> Result<Option<String>, Unreadable> {
    let bytes = json.as_bytes();
    let (mut out, mut kept, mut at) = (String::new(), 0, 0);
    while let Some(start) = bytes[at..].iter().position(begins).map(|start| at + start) {
        let masked;
        (at, masked) = if bytes[start] == b'"' {
            let end = start + 1 + length(&bytes[start + 1..]).ok_or(Unreadable)?;
            let inner = &json[start + 1..end];
            let text = if inner.contains('\\') {
                Cow::Owned(serde_json::from_str(&json[start..=end]).map_err(|_| Unreadable)?)
            } else {
                Cow::Borrowed(inner)
            };
            (end + 1, mask(&text, shortest))
        } else {
            let rest = &json[start..];
            let number = &rest[..rest.bytes().position(|byte| !is_of_number(byte)).unwrap_or(rest.len())];
            let shortest = shortest.max(LONG);
            let is_long = number.len() >= shortest;
            (start + number.len(), is_long.then(|| mask(number, shortest)).flatten())
        };
        if let Some(masked) = masked {
            out.push_str(&json[kept..start]);
            out.push_str(&serde_json::to_string(&masked).expect("a string is JSON"));
            kept = at;
        }
    }
    if kept == 0 {
        return Ok(None);
    }
    out.push_str(&json[kept..]);
    Ok(Some(out))
}

/// Whether a string or a number begins so.
fn begins(byte: &u8) -> bool {
    matches!(byte, b'"' | b'-' | b'0'..=b'9')
}

fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

/// Up to the quotation mark that ends a string.
fn length(rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += rest.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        if rest[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn masked(json: &str) -> Result<Option<String>, Unreadable> {
        mask_json(json, 0, |text, shortest| {
            let secrets = ["a\"nary", "4711", "4711471147"];
            let found = secrets
                .into_iter()
                .rfind(|secret| secret.len() >= shortest && text.contains(secret))?;
            Some(text.replace(found, "\"***\""))
        })
    }

    #[test]
    fn masks_every_string_and_keeps_all_else() {
        let json = r#"{ "code":1.50e0,"a":"x\\","a":"401 for a\"nary","data":[{"\u0061\u0022nary":12345678901234567890123}] , "b":"\/"}"#;
        let expected = r#"{ "code":1.50e0,"a":"x\\","a":"401 for \"***\"","data":[{"\"***\"":12345678901234567890123}] , "b":"\/"}"#;
        assert_eq!(masked(json), Ok(Some(expected.to_owned())));
        assert_eq!(masked(r#"{"code": -1,"message":"no\n, \\\"nary"}"#), Ok(None));
    }

    #[test]
    fn a_long_secret_is_masked_in_numbers() {
        for (json, expected) in [
            (
                r#"{"code":-4711,"a":47112345,"b":[1.5,-4711471147]}"#,
                r#"{"code":-4711,"a":47112345,"b":[1.5,"-\"***\""]}"#,
            ),
            (r#"4711471147.0"#, r#""\"***\".0""#),
            (r#""4711",4711"#, r#""\"***\"",4711"#),
        ] {
            assert_eq!(masked(json), Ok(Some(expected.to_owned())), "{json}");
        }
    }

    #[test]
    fn depth_does_not_matter() {
        let deep = |text: &str| format!("{}{text}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        let expected = deep(r#""\"***\"""#);
        assert!(masked(&deep(r#""a\"nary""#)) == Ok(Some(expected)));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for json in [r#""a\"nary\ud800""#, r#"{"a"#, r#"{"a\"#, r#"{"a\x"}"#] {
            assert_eq!(masked(json), Err(Unreadable), "{json}");
        }
    }
}
