//! Whether all JSON parsers read a text the same way.
//!
//! RFC 8259 leaves open what an object with the same name twice means, what a number is that no double holds, and what half of a
//! surrogate pair is. Parsers differ: the first or the last member counts, the number is an error or infinity, the half is
//! an error, kept or replaced.

use std::{borrow::Cow, ops::Range};

use smallvec::SmallVec;

use super::{
    JsonError, MAX_DEPTH,
    names::Names,
    unescape,
    walk::{Visitor, skip_space, walk},
};

/// Numbers shorter than this, without an exponent, fit into a double.
const SHORT_NUMBER: usize = 300;

/// Validates a whole text, in a time that is linear in its length however it is nested. An object that is parsed, together with its values, may
/// be nested one level deeper than a value.
pub(crate) fn check(text: &str) -> Result<(), JsonError> {
    let bytes = text.as_bytes();
    let mut alike = Alike::new(text);
    let end = walk(bytes, skip_space(bytes, 0), MAX_DEPTH + 1, &mut alike)?;
    let end = skip_space(bytes, end);
    if end == bytes.len() {
        Ok(())
    } else {
        Err(JsonError::Syntax(end))
    }
}

/// Rejects what parsers read differently.
pub(super) struct Alike<'a> {
    text: &'a str,
    open: SmallVec<[Open<'a>; 4]>,
    /// The names so far of all objects that are open.
    names: SmallVec<[Cow<'a, str>; 8]>,
}

/// An object or array that is open at a position.
struct Open<'a> {
    /// Where its names begin.
    first: usize,
    names: Names<'a>,
}

impl<'a> Alike<'a> {
    /// For values of this text.
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            open: SmallVec::new(),
            names: SmallVec::new(),
        }
    }
}

impl Visitor for Alike<'_> {
    fn open(&mut self, _object: bool) {
        self.open.push(Open {
            first: self.names.len(),
            names: Names::default(),
        });
    }

    fn close(&mut self) {
        if let Some(closed) = self.open.pop() {
            self.names.truncate(closed.first);
        }
    }

    fn name(&mut self, at: Range<usize>) -> Result<(), JsonError> {
        let start = at.start;
        let name = unescape(&self.text[at]).ok_or(JsonError::Surrogate(start))?;
        if let Some(Open { first, names }) = self.open.last_mut() {
            let before = &self.names[*first..];
            names.add(before.len(), before.iter(), name.clone())?;
            self.names.push(name);
        }
        Ok(())
    }

    fn string(&mut self, at: Range<usize>) -> Result<(), JsonError> {
        let start = at.start;
        let string = &self.text[at];
        // It cannot fail for another reason.
        if string.as_bytes().contains(&b'\\') && string.contains("\\u") && unescape(string).is_none() {
            return Err(JsonError::Surrogate(start));
        }
        Ok(())
    }

    fn number(&mut self, at: Range<usize>) -> Result<(), JsonError> {
        let start = at.start;
        let number = &self.text[at];
        let is_plain = number.len() < SHORT_NUMBER && !number.contains(['e', 'E']);
        if is_plain || number.parse::<f64>().is_ok_and(f64::is_finite) {
            Ok(())
        } else {
            Err(JsonError::Number(start))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Object;

    #[test]
    fn names_are_compared_within_their_object() {
        for (text, is_alike) in [
            (r#"{"a":{"b":1,"c":{"b":2,"c":3},"d":4},"b":{"a":1}}"#, true),
            (r#"{"a":{"b":1,"c":{"d":2},"b":3}}"#, false),
            (r#"{"a":{"b":[{"c":1},{"c":2}],"c":3}}"#, true),
            (r#"{"a":{"b":[{"c":1},{"d":2}],"c":3,"b":4}}"#, false),
        ] {
            assert_eq!(check(text).is_ok(), is_alike, "{text}");
            assert_eq!(Object::parse_alike(text).is_ok(), is_alike, "{text}");
        }
    }

    #[test]
    fn accepts_what_parsers_read_the_same_way() {
        for text in [
            r#"{"a":{"b":1,"c":[{"b":2},{"b":3}]},"b":-0.5e10}"#,
            r#"[1,"\ud83d\ude00","é"]"#,
            "12345678901234567890",
            "1e-400",
            " {} ",
            "[[],[{}]]",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
            assert!(Object::parse_alike(&format!("{{\"a\":{text}}}")).is_ok(), "{text}");
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
            assert!(Object::parse_alike(&format!("{{\"a\":{text}}}")).is_err(), "{text}");
        }
        assert_eq!(check(&"9".repeat(400)), Err(JsonError::Number(0)));
        for open in ["[", "{\"a\":"] {
            assert_eq!(check(&open.repeat(1_000_000)), Err(JsonError::TooDeep));
        }
    }
}
