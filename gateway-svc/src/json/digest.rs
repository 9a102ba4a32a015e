//! A digest of what a JSON text says, however it is written.
//!
//! The order of members, the space between tokens and the escapes in strings make no difference. Numbers are compared as they stand: how precisely a
//! parser reads them is its own affair.

use std::{borrow::Cow, mem, ops::Range};

use sha2::{Digest as _, Sha256};

use super::{
    JsonError, MAX_DEPTH, unescape,
    walk::{Visitor, skip_space, walk},
};

/// The digest of a value that is the whole text, in a time that is linear in its length however it is nested.
pub(crate) fn digest(text: &str) -> Result<[u8; 32], JsonError> {
    let bytes = text.as_bytes();
    let mut said = Said {
        text,
        open: Vec::new(),
        whole: Sha256::new(),
    };
    let end = walk(bytes, skip_space(bytes, 0), MAX_DEPTH, &mut said)?;
    let end = skip_space(bytes, end);
    if end == bytes.len() {
        Ok(said.whole.finalize().into())
    } else {
        Err(JsonError::Syntax(end))
    }
}

/// What a text has said so far.
struct Said<'a> {
    text: &'a str,
    open: Vec<Open<'a>>,
    whole: Sha256,
}

/// The objects and arrays that are open at a position.
enum Open<'a> {
    Array(Sha256),
    Object {
        /// Of the member whose value comes next.
        name: Cow<'a, str>,
        members: Vec<(Cow<'a, str>, Part)>,
    },
}

/// A value in an object or array.
enum Part {
    /// A string, number or literal: where it is.
    Plain(Range<usize>),
    /// An object or array: its digest.
    Nested([u8; 32]),
}

impl Said<'_> {
    fn take(&mut self, part: Part) {
        match self.open.last_mut() {
            None => add(&mut self.whole, self.text, part),
            Some(Open::Array(hash)) => add(hash, self.text, part),
            Some(Open::Object { name, members }) => members.push((mem::take(name), part)),
        }
    }
}

impl Visitor for Said<'_> {
    fn open(&mut self, object: bool) {
        self.open.push(if object {
            Open::Object {
                name: Cow::default(),
                members: Vec::new(),
            }
        } else {
            Open::Array(Sha256::new_with_prefix("["))
        });
    }

    fn close(&mut self) {
        let hash = match self.open.pop() {
            Some(Open::Array(hash)) => hash,
            Some(Open::Object { mut members, .. }) => {
                members.sort_by(|(one, _), (other, _)| one.cmp(other));
                let mut hash = Sha256::new_with_prefix("{");
                for (name, part) in members {
                    tagged(&mut hash, b'"', name.as_bytes());
                    add(&mut hash, self.text, part);
                }
                hash
            }
            None => return,
        };
        self.take(Part::Nested(hash.finalize().into()));
    }

    fn name(&mut self, at: Range<usize>) -> Result<(), JsonError> {
        let start = at.start;
        if let Some(Open::Object { name, .. }) = self.open.last_mut() {
            *name = unescape(&self.text[at]).ok_or(JsonError::Surrogate(start))?;
        }
        Ok(())
    }

    fn string(&mut self, at: Range<usize>) -> Result<(), JsonError> {
        self.take(Part::Plain(at));
        Ok(())
    }

    fn number(&mut self, at: Range<usize>) -> Result<(), JsonError> {
        self.take(Part::Plain(at));
        Ok(())
    }

    fn literal(&mut self, at: Range<usize>) {
        self.take(Part::Plain(at));
    }
}

fn add(hash: &mut Sha256, text: &str, part: Part) {
    match part {
        Part::Plain(at) => {
            let text = &text[at];
            match unescape(text) {
                Some(string) => tagged(hash, b'"', string.as_bytes()),
                None => tagged(hash, b'=', text.as_bytes()),
            }
        }
        Part::Nested(digest) => tagged(hash, b'#', &digest),
    }
}

/// Adds a text so that it cannot be read as others: with its length, and what it is.
fn tagged(hash: &mut Sha256, tag: u8, text: &[u8]) {
    hash.update([tag]);
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text);
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn is_of_what_a_text_says_and_not_of_how_it_is_written() {
        let text = r#"{"a":[1,{"x":"\u00e9/","y":null}],"b":{"c":true,"d":-0.5e10},"":"\n"}"#;
        let same = " {\"b\" : {\"d\":-0.5e10 ,\"c\":true}, \"\":\"\\u000a\",\r\n\t\"\\u0061\":[ 1 , {\"y\":null,\"x\":\"é\\/\"} ]} ";
        assert_eq!(digest(text), digest(same));
    }

    #[test]
    fn differs_where_texts_say_something_else() {
        let texts = [
            "{}",
            "[]",
            "[[]]",
            "[{}]",
            "[[],[]]",
            "[1,2]",
            "[2,1]",
            "[12]",
            "[1,[2]]",
            "[\"1\",2]",
            "1",
            "1.0",
            "\"1\"",
            "true",
            "\"true\"",
            "false",
            "null",
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":2}"#,
            r#"{"b":1}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":1,"b":2}"#,
            r#"{"a":2,"b":1}"#,
            r#"{"a":{},"b":1}"#,
            r#"["a",1]"#,
            r#"["\ud800"]"#,
            r#"["\\ud800"]"#,
        ];
        let digests: std::collections::HashSet<_> = texts.iter().map(|text| digest(text).unwrap()).collect();
        assert_eq!(digests.len(), texts.len());
    }

    #[test]
    fn deep_nesting_neither_overflows_nor_passes() {
        for open in ["[", "{\"a\":"] {
            assert_eq!(digest(&open.repeat(1_000_000)), Err(JsonError::TooDeep));
        }
        for text in ["", "[1,]", "{} x"] {
            assert!(matches!(digest(text), Err(JsonError::Syntax(_))), "{text}");
        }
    }
}
