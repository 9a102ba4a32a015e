//! Masking a JSON text.

use std::borrow::Cow;

/// A string of the JSON cannot be read: it has no end, or an escape in it is no character, such as one half of a surrogate pair.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable;

/// The JSON with each string replaced for which `mask` returns another, also the names of members; `None` if there is none. `mask` gets what a string
/// means, since JSON has several spellings of one. All else is kept, byte for byte. The text may be nested to any depth.
///
/// # Errors
/// If a string cannot be read.
pub fn mask_strings(json: &str, mut mask: impl FnMut(&str) -> Option<String>) -> Result<Option<String>, Unreadable> {
    let (mut out, mut kept, mut at) = (String::new(), 0, 0);
    while let Some(start) = json[at..].find('"').map(|start| at + start) {
        let end = start + 1 + length(&json.as_bytes()[start + 1..]).ok_or(Unreadable)?;
        let inner = &json[start + 1..end];
        let text = if inner.contains('\\') {
            Cow::Owned(serde_json::from_str(&json[start..=end]).map_err(|_| Unreadable)?)
        } else {
            Cow::Borrowed(inner)
        };
        if let Some(masked) = mask(&text) {
            out.push_str(&json[kept..start]);
            out.push_str(&serde_json::to_string(&masked).expect("a string is JSON"));
            kept = end + 1;
        }
        at = end + 1;
    }
    if kept == 0 {
        return Ok(None);
    }
    out.push_str(&json[kept..]);
    Ok(Some(out))
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
        mask_strings(json, |text| {
            text.contains("a\"nary").then(|| text.replace("a\"nary", "\"***\""))
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
