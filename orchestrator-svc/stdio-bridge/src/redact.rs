//! Removes secrets from log lines.

use std::fmt;

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER};
use zeroize::Zeroize;

const MASK: &str = "[redacted]";

/// A shorter secret is masked only where it is a whole word: otherwise, it would mask parts of every line.
const SHORT: usize = 4;

/// A shorter line of a secret of several lines is not masked: `{` and `},` of JSON are in many lines.
const SHORT_LINE: usize = 8;

/// Replaces known secrets, also in common encodings.
pub struct Redactor {
    /// Longest first, so that a secret that contains another is masked as a whole.
    needles: Vec<Vec<u8>>,
}

impl Redactor {
    /// Masks these secrets. One of several lines is also masked line by line, as logs are written.
    pub fn new<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let mut needles = Vec::new();
        for secret in secrets {
            let secret = secret.as_ref().trim();
            if secret.is_empty() {
                continue;
            }
            forms(secret, &mut needles);
            let lines = secret.lines().map(str::trim);
            let telling = |line: &&str| line.len() >= SHORT_LINE && line.contains(char::is_alphanumeric);
            lines.filter(telling).for_each(|line| forms(line, &mut needles));
        }
        needles.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        needles.dedup();
        Self { needles }
    }

    /// The length of the longest text that is masked: a line that is cut so many bytes after the limit can be masked up to the limit.
    pub fn longest(&self) -> usize {
        self.needles.first().map_or(0, Vec::len)
    }

    /// The first `limit` bytes of the line, masked. U+FFFD replaces what is not UTF-8.
    pub fn redact(&self, line: &[u8], limit: usize) -> String {
        let mut out = Vec::with_capacity(line.len().min(limit));
        let mut at = 0;
        while at < line.len().min(limit) {
            if let Some(needle) = self.needles.iter().find(|n| found(line, at, n)) {
                out.extend_from_slice(MASK.as_bytes());
                at += needle.len();
            } else {
                out.push(line[at]);
                at += 1;
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}

fn found(line: &[u8], at: usize, needle: &[u8]) -> bool {
    if !line[at..].starts_with(needle) {
        return false;
    }
    let word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    needle.len() >= SHORT || !(word(at.checked_sub(1).and_then(|i| line.get(i))) || word(line.get(at + needle.len())))
}

fn forms(secret: &str, needles: &mut Vec<Vec<u8>>) {
    let bytes = secret.as_bytes();
    needles.push(bytes.to_vec());
    if bytes.len() < SHORT {
        return;
    }
    for encoding in [&BASE64, &BASE64_NOPAD, &BASE64URL, &BASE64URL_NOPAD, &HEXLOWER] {
        needles.push(encoding.encode(bytes).into_bytes());
    }
    needles.push(data_encoding::HEXUPPER.encode(bytes).into_bytes());
    // Inside longer base64, as in `user:secret`, the secret can begin at one of three offsets. The characters that also encode its neighbours are left
    // out.
    for skip in 1..3 {
        for encoding in [&BASE64_NOPAD, &BASE64URL_NOPAD] {
            let padded: Vec<u8> = std::iter::repeat_n(0, skip).chain(bytes.iter().copied()).collect();
            let whole = padded.len() / 3 * 3;
            let encoded = encoding.encode(&padded[..whole]);
            if let Some(inner) = encoded.get(4..).filter(|inner| inner.len() >= 6) {
                needles.push(inner.as_bytes().to_vec());
            }
        }
    }
    needles.push(percent(bytes, false));
    needles.push(percent(bytes, true));
    let json = serde_json::to_string(secret).expect("a string is JSON");
    needles.push(json.as_bytes()[1..json.len() - 1].to_vec());
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

impl Drop for Redactor {
    fn drop(&mut self) {
        self.needles.iter_mut().for_each(Zeroize::zeroize);
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cr3t/Ünï +value";

    #[test]
    fn masks_a_secret_in_its_usual_forms() {
        let redactor = Redactor::new([SECRET]);
        let basic = BASE64.encode(format!("me:{SECRET}").as_bytes());
        let encoded = [
            SECRET.to_owned(),
            BASE64.encode(SECRET.as_bytes()),
            BASE64URL_NOPAD.encode(SECRET.as_bytes()),
            HEXLOWER.encode(SECRET.as_bytes()),
            "s3cr3t%2F%C3%9Cn%C3%AF%20%2Bvalue".to_owned(),
            "s3cr3t%2F%C3%9Cn%C3%AF+%2Bvalue".to_owned(),
        ];
        for form in encoded {
            let line = format!("before {form} after");
            assert_eq!(
                redactor.redact(line.as_bytes(), 1000),
                "before [redacted] after",
                "{form}"
            );
        }
        let masked = redactor.redact(basic.as_bytes(), 1000);
        assert!(masked.contains(MASK) && masked.len() < basic.len(), "{masked}");
    }

    #[test]
    fn masks_each_line_of_a_secret_and_short_ones_as_words() {
        let redactor = Redactor::new(["first line\nsecond line", "42"]);
        assert_eq!(redactor.redact(b"x second line y", 1000), "x [redacted] y");
        assert_eq!(redactor.redact(b"pin 42, port 4242", 1000), "pin [redacted], port 4242");
    }

    #[test]
    fn a_secret_of_several_lines_masks_nothing_that_every_line_has() {
        let key = "{\n  \"type\": \"service_account\",\n  \"private_key\": \"hunter2-hunter2\",\n  \"n\": 1\n  },\n----------\n}\n";
        let redactor = Redactor::new([key]);
        let said = "{\"level\":1,\"list\":[{},{}]} ---------- n";
        assert_eq!(redactor.redact(said.as_bytes(), 1000), said);
        assert_eq!(
            redactor.redact(b"got \"private_key\": \"hunter2-hunter2\", and more", 1000),
            "got [redacted] and more"
        );
        let escaped = serde_json::to_string(key.trim()).unwrap();
        assert_eq!(
            redactor.redact(format!("x {escaped} y").as_bytes(), 1000),
            "x \"[redacted]\" y"
        );
    }

    #[test]
    fn leaves_no_part_of_a_secret_at_the_cut() {
        let redactor = Redactor::new(["abcdefgh"]);
        assert_eq!(redactor.redact(b"123 abcdefgh", 7), "123 [redacted]");
        assert_eq!(redactor.redact(b"a\xff", 7), "a\u{fffd}");
        assert!(!format!("{redactor:?}").contains("abc"));
    }
}
