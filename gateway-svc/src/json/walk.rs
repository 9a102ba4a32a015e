//! Walks through JSON text without recursion.

use std::ops::Range;

use super::{JsonError, MAX_DEPTH};

pub(super) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// The objects and arrays that are open at a position, one bit each.
struct Nesting {
    bits: [u64; MAX_DEPTH / 64 + 1],
    depth: usize,
    /// The deepest nesting that is accepted.
    most: usize,
}

impl Nesting {
    fn open(&mut self, object: bool) -> Result<(), JsonError> {
        if self.depth == self.most {
            return Err(JsonError::TooDeep);
        }
        let (word, bit) = (self.depth / 64, 1_u64 << (self.depth % 64));
        if object {
            self.bits[word] |= bit;
        } else {
            self.bits[word] &= !bit;
        }
        self.depth += 1;
        Ok(())
    }

    fn in_object(&self) -> bool {
        let top = self.depth - 1;
        self.bits[top / 64] & (1 << (top % 64)) != 0
    }
}

/// Visits each name and value of a text, with its position; may reject it.
pub(super) trait Visitor {
    fn open(&mut self, _object: bool) {}
    fn close(&mut self) {}
    fn name(&mut self, _at: Range<usize>) -> Result<(), JsonError> {
        Ok(())
    }
    fn string(&mut self, _at: Range<usize>) -> Result<(), JsonError> {
        Ok(())
    }
    fn number(&mut self, _at: Range<usize>) -> Result<(), JsonError> {
        Ok(())
    }
    /// `true`, `false` or `null`.
    fn literal(&mut self, _at: Range<usize>) {}
}

/// Accepts all JSON.
pub(super) struct Anything;

impl Visitor for Anything {}

/// The end of the value that begins at `start`.
pub(super) fn skip_value(bytes: &[u8], start: usize) -> Result<usize, JsonError> {
    walk(bytes, start, MAX_DEPTH, &mut Anything)
}

/// As [`skip_value`], with a visitor, and nested up to `most` levels deep: [`MAX_DEPTH`], or one more.
pub(super) fn walk(bytes: &[u8], start: usize, most: usize, visitor: &mut impl Visitor) -> Result<usize, JsonError> {
    let mut nesting = Nesting {
        bits: [0; MAX_DEPTH / 64 + 1],
        depth: 0,
        most,
    };
    let mut at = start;
    loop {
        // A value begins here.
        match bytes.get(at) {
            Some(&opening @ (b'{' | b'[')) => {
                let is_object = opening == b'{';
                nesting.open(is_object)?;
                visitor.open(is_object);
                at = skip_space(bytes, at + 1);
                if bytes.get(at) != Some(if is_object { &b'}' } else { &b']' }) {
                    if is_object {
                        at = name(bytes, at, visitor)?;
                    }
                    continue;
                }
                nesting.depth -= 1;
                visitor.close();
                at += 1;
            }
            Some(b'"') => {
                let end = skip_string(bytes, at)?;
                visitor.string(at..end)?;
                at = end;
            }
            Some(b't') => at = literal(bytes, at, b"true", visitor)?,
            Some(b'f') => at = literal(bytes, at, b"false", visitor)?,
            Some(b'n') => at = literal(bytes, at, b"null", visitor)?,
            Some(b'-' | b'0'..=b'9') => {
                let end = skip_number(bytes, at)?;
                visitor.number(at..end)?;
                at = end;
            }
            _ => return Err(JsonError::Syntax(at)),
        }
        // A value ended here: go on to the next one, or close what it was the last of.
        loop {
            if nesting.depth == 0 {
                return Ok(at);
            }
            at = skip_space(bytes, at);
            match (bytes.get(at), nesting.in_object()) {
                (Some(b','), true) => {
                    at = name(bytes, skip_space(bytes, at + 1), visitor)?;
                    break;
                }
                (Some(b','), false) => {
                    at = skip_space(bytes, at + 1);
                    break;
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    nesting.depth -= 1;
                    visitor.close();
                    at += 1;
                }
                _ => return Err(JsonError::Syntax(at)),
            }
        }
    }
}

/// A member's name, its colon and the space around; the position of its value.
fn name(bytes: &[u8], at: usize, visitor: &mut impl Visitor) -> Result<usize, JsonError> {
    let end = skip_string(bytes, at)?;
    visitor.name(at..end)?;
    let colon = skip_space(bytes, end);
    if bytes.get(colon) == Some(&b':') {
        Ok(skip_space(bytes, colon + 1))
    } else {
        Err(JsonError::Syntax(colon))
    }
}

fn literal(bytes: &[u8], at: usize, literal: &[u8], visitor: &mut impl Visitor) -> Result<usize, JsonError> {
    if bytes[at..].starts_with(literal) {
        let end = at + literal.len();
        visitor.literal(at..end);
        Ok(end)
    } else {
        Err(JsonError::Syntax(at))
    }
}

fn skip_number(bytes: &[u8], start: usize) -> Result<usize, JsonError> {
    let digits = |mut at: usize| {
        let first = at;
        while matches!(bytes.get(at), Some(b'0'..=b'9')) {
            at += 1;
        }
        if at == first {
            Err(JsonError::Syntax(at))
        } else {
            Ok(at)
        }
    };
    let mut at = start;
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    at = if bytes.get(at) == Some(&b'0') {
        at + 1
    } else {
        digits(at)?
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        if matches!(bytes.get(at), Some(b'+' | b'-')) {
            at += 1;
        }
        at = digits(at)?;
    }
    Ok(at)
}

/// The end of the string that begins at `start`, after its closing quotation mark.
pub(super) fn skip_string(bytes: &[u8], start: usize) -> Result<usize, JsonError> {
    if bytes.get(start) != Some(&b'"') {
        return Err(JsonError::Syntax(start));
    }
    let mut at = start + 1;
    loop {
        at = skip_plain(bytes, at);
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match bytes.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                Some(b'u') => {
                    let hex = bytes.get(at + 2..at + 6).ok_or(JsonError::Syntax(at))?;
                    if !hex.iter().all(u8::is_ascii_hexdigit) {
                        return Err(JsonError::Syntax(at));
                    }
                    at += 6;
                }
                _ => return Err(JsonError::Syntax(at)),
            },
            _ => return Err(JsonError::Syntax(at)),
        }
    }
}

/// The first quotation mark, backslash or control character at or after `at`.
fn skip_plain(bytes: &[u8], mut at: usize) -> usize {
    // Names, and most values, end within a few words. Long texts go by blocks, of which the compiler makes vector instructions.
    for _ in 0..3 {
        match bytes.get(at..).and_then(<[u8]>::first_chunk) {
            Some(word) => match special_in(*word) {
                Some(place) => return at + place,
                None => at += word.len(),
            },
            None => return skip_plain_end(bytes, at),
        }
    }
    while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk::<64>) {
        if block.iter().fold(false, |found, byte| found | is_special(*byte)) {
            break;
        }
        at += block.len();
    }
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        match special_in(*word) {
            Some(place) => return at + place,
            None => at += word.len(),
        }
    }
    skip_plain_end(bytes, at)
}

/// The same, where less than a word is left.
fn skip_plain_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len())
}

fn is_special(byte: u8) -> bool {
    // Without branches.
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

/// Where the first of these is in eight bytes.
fn special_in(word: [u8; 8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(word);
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let special = zero(word ^ (ONES * u64::from(b'"')))
        | zero(word ^ (ONES * u64::from(b'\\')))
        | (word.wrapping_sub(ONES * 0x20) & !word & HIGHS);
    // Borrows can only reach upwards, so the lowest mark is always true.
    (special != 0).then(|| (special.trailing_zeros() / 8) as usize)
}
