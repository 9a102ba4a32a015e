//! Names of members: which are equal, and which some parsers treat as equal.

use std::{borrow::Cow, collections::HashSet};

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

use super::{JsonError, MAX_MEMBERS};

/// Up to this many names are compared one by one.
const FEW: usize = 16;

/// The names of one object, as long as each of them is new. The time for all of them grows with their number, not with its square.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    /// Only where they are more than a few.
    many: Option<HashSet<Cow<'a, str>>>,
}

impl<'a> Names<'a> {
    /// Adds a name to those `before` it, which are `count`.
    pub(super) fn add<'b>(
        &mut self,
        count: usize,
        before: impl Iterator<Item = &'b Cow<'a, str>>,
        name: Cow<'a, str>,
    ) -> Result<(), JsonError>
    where
        'a: 'b,
    {
        let mut before = before;
        if count >= MAX_MEMBERS {
            return Err(JsonError::TooMany);
        }
        let is_new = if count < FEW {
            before.all(|other| *other != name)
        } else {
            let many = self.many.get_or_insert_with(|| before.cloned().collect());
            many.insert(name)
        };
        if is_new { Ok(()) } else { Err(JsonError::Duplicate) }
    }
}

/// No known name has more letters and digits.
const LONGEST: usize = 16;

/// Whether a lenient parser may read a name as one of `known`, which are ASCII: one that ignores case (Go's `encoding/json`, by Unicode's
/// simple folding), one that ignores all but letters and digits (Go's `encoding/json/v2`, and Python libraries with snake_case names), or
/// one that compares normalized text.
pub(super) fn look_alike(name: &str, known: &[&str]) -> bool {
    let mut letters = ['\0'; LONGEST];
    let Some(letters) = first(name, &mut letters) else {
        return false;
    };
    known.iter().any(|known| fold_ascii(known).eq(letters.iter().copied()))
}

/// A name after folding; `None` where that is longer than any known name.
fn first<'a>(name: &str, letters: &'a mut [char; LONGEST]) -> Option<&'a [char]> {
    let mut count = 0;
    let mut take = |letter| {
        *letters.get_mut(count)? = letter;
        count += 1;
        Some(())
    };
    if name.is_ascii() {
        fold_ascii(name).try_for_each(&mut take)?;
    } else {
        fold(name).try_for_each(&mut take)?;
    }
    Some(&letters[..count])
}

/// [`fold`] of ASCII text.
fn fold_ascii(name: &str) -> impl Iterator<Item = char> {
    let letters = name.bytes().filter(u8::is_ascii_alphanumeric);
    letters.map(|byte| char::from(byte.to_ascii_lowercase()))
}

fn fold(name: &str) -> impl Iterator<Item = char> {
    // Upper case first: a long s has the upper case of s, and a dotless i that of i.
    name.nfkd()
        .filter(|&c| !is_combining_mark(c))
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .nfkd()
        .filter(|&c| c.is_alphanumeric() && !is_combining_mark(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_alike_however_they_are_cased_written_and_separated() {
        for (name, known) in [
            ("Params", "params"),
            ("param\u{17f}", "params"),
            ("PARAM\u{17f}", "params"),
            ("tas\u{212a}", "task"),
            ("\u{130}d", "id"),
            ("\u{131}d", "id"),
            ("\u{ff49}d", "id"),
            ("progress_token", "progressToken"),
            ("progress-token", "progressToken"),
            ("_Meta", "_meta"),
            ("meta", "_meta"),
            ("id\u{200b}", "id"),
            ("i\u{301}d", "id"),
            (" id", "id"),
            ("id\0", "id"),
        ] {
            assert!(look_alike(name, &["other", known]), "{name:?}");
        }
        for (name, known) in [
            ("ids", "id"),
            ("", "id"),
            ("later", "params"),
            ("d", "id"),
            ("\u{430}rguments", "arguments"),
            ("idididididididididididididid", "id"),
            ("\u{e9}dididididididididididididid", "id"),
        ] {
            assert!(!look_alike(name, &["other", known]), "{name:?}");
        }
    }
}
