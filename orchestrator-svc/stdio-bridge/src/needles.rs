//! The texts that are masked: secrets, also in common encodings.

use std::{borrow::Cow, fmt, ops::Range};

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER};
use zeroize::Zeroize;

/// A shorter secret is masked only where it is a whole word: otherwise, it would mask parts of every line.
const SHORT: usize = 4;

/// A shorter line of a secret of several lines is not masked: `{` and `},` of JSON are in many lines.
const SHORT_LINE: usize = 8;

/// Secrets to look for. A search at one place of a text costs the logarithm of their number: a file that is secret has thousands of lines.
///
/// An automaton (Aho-Corasick) would be as fast, but has a state for each byte of each form of each secret, in memory that is not wiped.
#[derive(Default)]
pub(crate) struct Needles {
    /// In order.
    all: Vec<Vec<u8>>,
    /// For each, the longest other one that it begins with.
    shorter: Vec<Option<usize>>,
    /// Where in `all` those with each first byte are.
    by_first: Vec<Range<usize>>,
    longest: usize,
}

impl Needles {
    /// Of these secrets. One of several lines is also looked for line by line, as logs are written.
    pub(crate) fn new<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let mut all = Vec::new();
        for secret in secrets {
            let secret = secret.as_ref().trim();
            if secret.is_empty() {
                continue;
            }
            forms(secret, &mut all);
            let lines = secret.lines().map(str::trim);
            let telling = |line: &&str| line.len() >= SHORT_LINE && line.contains(char::is_alphanumeric);
            lines.filter(telling).for_each(|line| forms(line, &mut all));
        }
        all.sort_unstable();
        all.dedup();
        let (mut shorter, mut begun) = (Vec::with_capacity(all.len()), Vec::<usize>::new());
        for (i, needle) in all.iter().enumerate() {
            while begun.last().is_some_and(|&last| !needle.starts_with(&all[last])) {
                begun.pop();
            }
            shorter.push(begun.last().copied());
            begun.push(i);
        }
        let first = |byte: u8| all.partition_point(|needle| needle.first().is_some_and(|&first| first < byte));
        let last = |byte: u8| all.partition_point(|needle| needle.first().is_some_and(|&first| first <= byte));
        Self {
            by_first: (0..=u8::MAX).map(|byte| first(byte)..last(byte)).collect(),
            longest: all.iter().map(Vec::len).max().unwrap_or_default(),
            shorter,
            all,
        }
    }

    /// The length of the longest.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// The length of the longest that is at this place of the text; 0 if none is.
    pub(crate) fn find(&self, text: &[u8], at: usize) -> usize {
        let rest = &text[at..];
        let Some(within) = rest.first().and_then(|&byte| self.by_first.get(usize::from(byte))) else {
            return 0;
        };
        let before = self.all[within.clone()].partition_point(|needle| needle.as_slice() <= rest);
        // The text begins with the last needle before it in order, or with what that one begins with, or with none.
        let mut next = before.checked_sub(1).map(|last| within.start + last);
        while let Some(i) = next {
            let needle = &self.all[i];
            if rest.starts_with(needle) && stands_alone(text, at, needle.len()) {
                return needle.len();
            }
            next = self.shorter[i];
        }
        0
    }
}

/// The text without control characters, except tabs. A secret in which a server writes some is whole again where they are not shown.
pub(crate) fn without_controls(text: &str) -> Cow<'_, str> {
    if text.contains(is_dropped) {
        Cow::Owned(text.replace(is_dropped, ""))
    } else {
        Cow::Borrowed(text)
    }
}

/// Whether [`without_controls`] leaves the character out.
pub(crate) fn is_dropped(c: char) -> bool {
    c.is_control() && c != '\t'
}

/// Whether this part of a text may be masked: a short one only if it is a whole word.
fn stands_alone(text: &[u8], at: usize, length: usize) -> bool {
    let word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    length >= SHORT || !(word(at.checked_sub(1).and_then(|i| text.get(i))) || word(text.get(at + length)))
}

fn forms(secret: &str, out: &mut Vec<Vec<u8>>) {
    let bytes = secret.as_bytes();
    out.push(bytes.to_vec());
    // As it is in a text without control characters; `dedup` removes it where it is the same.
    out.push(without_controls(secret).into_owned().into_bytes());
    if bytes.len() < SHORT {
        return;
    }
    for encoding in [&BASE64, &BASE64_NOPAD, &BASE64URL, &BASE64URL_NOPAD, &HEXLOWER] {
        out.push(encoding.encode(bytes).into_bytes());
    }
    out.push(data_encoding::HEXUPPER.encode(bytes).into_bytes());
    // Inside longer base64, as in `user:secret`, the secret can begin at one of three offsets. The characters that also encode its neighbours are left
    // out.
    for skip in 1..3 {
        for encoding in [&BASE64_NOPAD, &BASE64URL_NOPAD] {
            let padded: Vec<u8> = std::iter::repeat_n(0, skip).chain(bytes.iter().copied()).collect();
            let whole = padded.len() / 3 * 3;
            let encoded = encoding.encode(&padded[..whole]);
            if let Some(inner) = encoded.get(4..).filter(|inner| inner.len() >= 6) {
                out.push(inner.as_bytes().to_vec());
            }
        }
    }
    out.push(percent(bytes, false));
    out.push(percent(bytes, true));
    let json = serde_json::to_string(secret).expect("a string is JSON");
    out.push(json.as_bytes()[1..json.len() - 1].to_vec());
}

fn percent(bytes: &[u8], form: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte),
            b' ' if form => out.push(b'+'),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out
}

impl Drop for Needles {
    fn drop(&mut self) {
        self.all.iter_mut().for_each(Zeroize::zeroize);
    }
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
        let there = needles.all.iter().filter(|needle| text[at..].starts_with(needle));
        let lengths = there.map(Vec::len).filter(|&length| stands_alone(text, at, length));
        lengths.max().unwrap_or_default()
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
