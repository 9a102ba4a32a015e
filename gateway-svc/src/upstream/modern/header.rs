//! Texts as values of headers.

use std::borrow::Cow;

use data_encoding::BASE64;
use http::HeaderValue;

/// What is between these is base64.
const ENCODED: [&str; 2] = ["=?base64?", "?="];

/// No longer value is sent: servers refuse requests with longer headers.
const LONGEST: usize = 8 << 10;

/// A text as a header; in base64 where it would not arrive as it is.
pub(super) fn value(text: &str) -> Option<HeaderValue> {
    let visible = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let [prefix, suffix] = ENCODED;
    let looks_encoded = text.starts_with(prefix) && text.ends_with(suffix);
    let safe = visible && !looks_encoded && !text.starts_with(' ') && !text.ends_with(' ');
    let text: Cow<'_, str> = if safe {
        text.into()
    } else {
        format!("{prefix}{}{suffix}", BASE64.encode(text.as_bytes())).into()
    };
    HeaderValue::from_str(&text).ok().filter(|value| value.len() <= LONGEST)
}

/// The text that a header stands for; `None` if it stands for none.
pub(crate) fn text(value: &HeaderValue) -> Option<Cow<'_, str>> {
    let [prefix, suffix] = ENCODED;
    let visible = value.to_str().ok()?;
    let Some(encoded) = visible.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix)) else {
        return Some(visible.into());
    };
    let bytes = BASE64.decode(encoded.as_bytes()).ok()?;
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_arrive_as_they_are() {
        for (text, expected) in [
            ("a b", "a b"),
            ("", ""),
            (" a", "=?base64?IGE=?="),
            ("a\n", "=?base64?YQo=?="),
            ("\u{fc}", "=?base64?w7w=?="),
            ("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?="),
        ] {
            let header = value(text).unwrap();
            assert_eq!(header, expected, "{text:?}");
            assert_eq!(super::text(&header).as_deref(), Some(text));
        }
        assert_eq!(value(&"x".repeat(LONGEST + 1)), None);
        for odd in ["=?base64?w7?=", "=?base64?/w==?="] {
            assert_eq!(super::text(&HeaderValue::from_static(odd)), None, "{odd}");
        }
    }
}
