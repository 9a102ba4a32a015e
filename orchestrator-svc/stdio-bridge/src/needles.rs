//! The texts that are masked: secrets, also in common encodings.

use std::fmt;

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER};
use zeroize::Zeroize;

/// A shorter secret is masked only where it is a whole word: otherwise, it would mask parts of every line.
const SHORT: usize = 4;

/// A shorter line of a secret of several lines is not masked: `{` and `},` of JSON are in many lines.
const SHORT_LINE: usize = 8;

/// Secrets to look for.
#[derive(Default)]
pub(crate) struct Needles {
    /// Longest first, so that a secret that contains another is found as a whole.
    all: Vec<Vec<u8>>,
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
        all.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        Self { all }
    }

    /// The length of the longest.
    pub(crate) fn longest(&self) -> usize {
        self.all.first().map_or(0, Vec::len)
    }

    /// The length of the longest that is at this place of the text; 0 if none is.
    pub(crate) fn find(&self, text: &[u8], at: usize) -> usize {
        let found = self.all.iter().find(|needle| found(text, at, needle));
        found.map_or(0, Vec::len)
    }
}

fn found(line: &[u8], at: usize, needle: &[u8]) -> bool {
    if !line[at..].starts_with(needle) {
        return false;
    }
    let word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    needle.len() >= SHORT || !(word(at.checked_sub(1).and_then(|i| line.get(i))) || word(line.get(at + needle.len())))
}

fn forms(secret: &str, out: &mut Vec<Vec<u8>>) {
    let bytes = secret.as_bytes();
    out.push(bytes.to_vec());
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
