//! The texts that are masked: secrets, also in common encodings.

use std::{fmt, ops::Range};

use zeroize::Zeroizing;

use crate::{
    beginnings::Beginnings,
    forms::{self, SHORT},
    inner,
    pieces::{Form, Forms, PIECE},
};

/// A shorter line of a secret of several lines is not masked: `{` and `},` of JSON are in many lines.
const SHORT_LINE: usize = 8;

/// Secrets to look for. A search at one place of a text costs the logarithm of their number: a file that is secret has thousands of lines. Their length
/// does not matter, see [`Forms`].
///
/// An automaton (Aho-Corasick) would be as fast, but has a state for each byte of each form of each secret, in memory that is not wiped.
#[derive(Default)]
pub struct Needles {
    /// In lower case, and in order.
    all: Vec<Form>,
    /// For each, the longest other one that it begins with.
    shorter: Vec<Option<usize>>,
    /// Where in `all` those with each first byte are.
    by_first: Vec<Range<usize>>,
    beginnings: Beginnings,
}

impl Needles {
    /// Of these secrets. One of several lines is also looked for line by line, as logs are written, one that is JSON value by value, and of one that has URLs the
    /// passwords.
    pub fn new<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let mut forms = Forms::default();
        for secret in secrets {
            let secret = secret.as_ref().trim();
            add(secret, &mut forms);
            inner::secrets(secret)
                .iter()
                .for_each(|value| add(value.trim(), &mut forms));
        }
        let all = forms.sorted();
        let (mut shorter, mut begun) = (Vec::with_capacity(all.len()), Vec::<usize>::new());
        for (i, needle) in all.iter().enumerate() {
            while begun
                .last()
                .is_some_and(|&last| !needle.starts_with(all[last].as_slice()))
            {
                begun.pop();
            }
            shorter.push(begun.last().copied());
            begun.push(i);
        }
        let first = |byte: u8| all.partition_point(|needle| needle.first().is_some_and(|&first| first < byte));
        let last = |byte: u8| all.partition_point(|needle| needle.first().is_some_and(|&first| first <= byte));
        Self {
            by_first: (0..=u8::MAX).map(|byte| first(byte)..last(byte)).collect(),
            beginnings: Beginnings::of(all.iter().map(|needle| needle.as_slice())),
            shorter,
            all,
        }
    }

    /// The length of the longest that is at this place of the text, which is in lower case; 0 if none is.
    fn find(&self, text: &[u8], at: usize) -> usize {
        let rest = &text[at..];
        if !self.beginnings.may_begin(rest) {
            return 0;
        }
        let Some(within) = rest.first().and_then(|&byte| self.by_first.get(usize::from(byte))) else {
            return 0;
        };
        let before = self.all[within.clone()].partition_point(|needle| needle.as_slice() <= rest);
        // The text begins with the last needle before it in order, or with what that one begins with, or with none.
        let mut next = before.checked_sub(1).map(|last| within.start + last);
        while let Some(i) = next {
            let needle = &self.all[i];
            if rest.starts_with(needle.as_slice()) && stands_alone(text, at, needle.len()) {
                return needle.len();
            }
            next = self.shorter[i];
        }
        0
    }
}

/// Adds the forms of a secret and of its lines.
fn add(secret: &str, all: &mut Forms) {
    if secret.is_empty() {
        return;
    }
    forms::add(secret, all);
    forms::add_wrapped(secret, all);
    let lines = secret.lines().map(str::trim);
    let telling = |line: &&str| line.len() >= SHORT_LINE && line.contains(char::is_alphanumeric);
    lines.filter(telling).for_each(|line| forms::add(line, all));
}

/// Where secrets are in a text, in order: those of any of these that begin before `end`. Case is ignored where it is ASCII's: servers often write a header's value in lower case.
pub fn found(needles: &[&Needles], text: &[u8], end: usize) -> Vec<Range<usize>> {
    let text = Zeroizing::new(text.to_ascii_lowercase());
    let (mut found, mut at) = (Vec::<Range<usize>>::new(), 0);
    while at < end {
        let length = needles
            .iter()
            .map(|needles| needles.find(&text, at))
            .max()
            .unwrap_or_default();
        match found.last_mut() {
            _ if length == 0 => {}
            // The next piece of a long one.
            Some(last) if last.end == at && last.len() >= PIECE => last.end += length,
            _ => found.push(at..at + length),
        }
        at += length.max(1);
    }
    found
}

/// Whether this part of a text may be masked: a short one only if it is a whole word.
fn stands_alone(text: &[u8], at: usize, length: usize) -> bool {
    let word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    length >= SHORT || !(word(at.checked_sub(1).and_then(|i| text.get(i))) || word(text.get(at + length)))
}

impl fmt::Debug for Needles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Needles").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the definition says: the longest that is there.
    fn slowly(needles: &Needles, text: &[u8], at: usize) -> usize {
        let there = needles
            .all
            .iter()
            .filter(|needle| text[at..].starts_with(needle.as_slice()));
        let lengths = there
            .map(|needle| needle.len())
            .filter(|&length| stands_alone(text, at, length));
        lengths.max().unwrap_or_default()
    }

    #[test]
    fn finds_a_line_of_a_value_of_json() {
        let needles = Needles::new([r#"{"id":"1","private_key":"-----BEGIN\nMIIEvQIBADAN+/\n-----END"}"#]);
        let text = b"parsed: MIIEvQIBADAN+/";
        assert_eq!(needles.find(&text.to_ascii_lowercase(), 8), text.len() - 8);
    }

    #[test]
    fn finds_the_whole_of_a_long_secret_and_parts_of_it() {
        let secret: String = (0..200).map(|n| format!("{n:05}")).collect();
        let needles = Needles::new([&secret]);
        let text = format!("before {secret} after");
        let only = |text: &[u8]| {
            let found = found(&[&needles], text, text.len());
            assert_eq!(found.len(), 1);
            found[0].clone()
        };
        assert_eq!(only(text.as_bytes()), 7..7 + secret.len());
        let part = &secret.as_bytes()[10..secret.len() - 10];
        assert_eq!(only(part), PIECE - 10..12 * PIECE - 10);
    }

    #[test]
    fn finds_the_longest_at_each_place() {
        let secrets = [
            "aaaa",
            "aaaaab",
            "aaaaabcc",
            "aab",
            "a",
            "baaa",
            "caaaabcccc",
            "-",
            "42",
        ];
        let needles = Needles::new(secrets);
        // Secrets and beginnings of secrets, one after the other.
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        let parts = (0..5_000).map(|_| {
            let secret = secrets[random(secrets.len())];
            &secret[..=random(secret.len())]
        });
        let text = parts.collect::<String>().into_bytes();
        let found: Vec<usize> = (0..text.len()).map(|at| needles.find(&text, at)).collect();
        let expected: Vec<usize> = (0..text.len()).map(|at| slowly(&needles, &text, at)).collect();
        assert!(found == expected);
        let is_found = |secret: &str| found.contains(&secret.len());
        assert!(secrets.into_iter().filter(|secret| secret.len() >= SHORT).all(is_found));
    }
}
