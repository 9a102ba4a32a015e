//! Whether every reader of JSON understands the same by a text.
//!
//! RFC 8259 leaves open what an object with the same name twice means, what a number is that no double holds, and what half of a
//! surrogate pair is. Readers differ: the first or the last member counts, the number is an error or infinity, the half is
//! an error, kept or replaced.

use std::borrow::Cow;

use super::{JsonError, MAX_DEPTH, names::Names, skip_literal, skip_number, skip_space, skip_string, unescape};

/// Numbers shorter than this, without an exponent, fit into a double.
const SHORT_NUMBER: usize = 300;

/// What stands open around a position.
enum Open<'a> {
    Array,
    Object { names: Names<'a>, all: Vec<Cow<'a, str>> },
}

/// Checks a whole text, however it is nested, in a time that grows with its length.
pub(crate) fn check(text: &str) -> Result<(), JsonError> {
    let bytes = text.as_bytes();
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut at = skip_space(bytes, 0);
    loop {
        // A value begins here.
        match bytes.get(at) {
            Some(b'{') => {
                enter(
                    &mut open,
                    Open::Object {
                        names: Names::default(),
                        all: Vec::new(),
                    },
                )?;
                at = skip_space(bytes, at + 1);
                if bytes.get(at) != Some(&b'}') {
                    at = name(text, &mut open, at)?;
                    continue;
                }
                open.pop();
                at += 1;
            }
            Some(b'[') => {
                enter(&mut open, Open::Array)?;
                at = skip_space(bytes, at + 1);
                if bytes.get(at) != Some(&b']') {
                    continue;
                }
                open.pop();
                at += 1;
            }
            Some(b'"') => {
                let end = skip_string(bytes, at)?;
                unescape(&text[at..end]).ok_or(JsonError::Surrogate(at))?;
                at = end;
            }
            Some(b't') => at = skip_literal(bytes, at, b"true")?,
            Some(b'f') => at = skip_literal(bytes, at, b"false")?,
            Some(b'n') => at = skip_literal(bytes, at, b"null")?,
            Some(b'-' | b'0'..=b'9') => {
                let end = skip_number(bytes, at)?;
                let number = &text[at..end];
                let is_plain = number.len() < SHORT_NUMBER && !number.contains(['e', 'E']);
                if !is_plain && !number.parse::<f64>().is_ok_and(f64::is_finite) {
                    return Err(JsonError::Number(at));
                }
                at = end;
            }
            _ => return Err(JsonError::Syntax(at)),
        }
        // A value ended here: go on to the next one, or close what it was the last of.
        loop {
            at = skip_space(bytes, at);
            match (bytes.get(at), open.last()) {
                (None, None) => return Ok(()),
                (Some(b','), Some(Open::Object { .. })) => {
                    at = name(text, &mut open, skip_space(bytes, at + 1))?;
                    break;
                }
                (Some(b','), Some(Open::Array)) => {
                    at = skip_space(bytes, at + 1);
                    break;
                }
                (Some(b'}'), Some(Open::Object { .. })) | (Some(b']'), Some(Open::Array)) => {
                    open.pop();
                    at += 1;
                }
                _ => return Err(JsonError::Syntax(at)),
            }
        }
    }
}

fn enter<'a>(open: &mut Vec<Open<'a>>, one: Open<'a>) -> Result<(), JsonError> {
    if open.len() > MAX_DEPTH {
        return Err(JsonError::TooDeep);
    }
    open.push(one);
    Ok(())
}

/// A member's name and its colon; the position of its value.
fn name<'a>(text: &'a str, open: &mut [Open<'a>], at: usize) -> Result<usize, JsonError> {
    let bytes = text.as_bytes();
    let end = skip_string(bytes, at)?;
    let name = unescape(&text[at..end]).ok_or(JsonError::Surrogate(at))?;
    if let Some(Open::Object { names, all }) = open.last_mut() {
        names.add(all.iter(), name.clone())?;
        all.push(name);
    }
    let colon = skip_space(bytes, end);
    if bytes.get(colon) == Some(&b':') {
        Ok(skip_space(bytes, colon + 1))
    } else {
        Err(JsonError::Syntax(colon))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_is_understood_alike() {
        for text in [
            r#"{"a":{"b":1,"c":[{"b":2},{"b":3}]},"b":-0.5e10}"#,
            r#"[1,"\ud83d\ude00","é"]"#,
            "12345678901234567890",
            "1e-400",
            " {} ",
            "[[],[{}]]",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn refuses_what_readers_differ_about() {
        for (text, error) in [
            (r#"{"a":[{"b":1,"\u0062":2}]}"#, JsonError::Duplicate),
            (r#"{"a":1e400}"#, JsonError::Number(5)),
            (r#"{"a":-1e400}"#, JsonError::Number(5)),
            (r#"["\ud800"]"#, JsonError::Surrogate(1)),
            (r#"{"\udc00":1}"#, JsonError::Surrogate(1)),
            (r#"{"a":1} x"#, JsonError::Syntax(8)),
            ("\u{feff}{}", JsonError::Syntax(0)),
            ("{'a':1}", JsonError::Syntax(1)),
            ("[NaN]", JsonError::Syntax(1)),
            ("[1,]", JsonError::Syntax(3)),
        ] {
            assert_eq!(check(text), Err(error), "{text}");
        }
        assert_eq!(check(&"9".repeat(400)), Err(JsonError::Number(0)));
        for open in ["[", "{\"a\":"] {
            assert_eq!(check(&open.repeat(1_000_000)), Err(JsonError::TooDeep));
        }
    }
}
