//! Removes secrets from log lines: those that the server was started with, and those that the gateway sends it in headers.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use masking::{LONGEST, Needles, without_hidden};
use zeroize::Zeroizing;

use crate::aside::Aside;

const MASK: &str = "[redacted]";

/// The most bytes of header values that are remembered, each with [`OVERHEAD`]. Beyond it, those that were not sent for the longest time are forgotten: the headers of
/// many callers may pass through.
const LEARNED: usize = 64 << 10;
/// What a value costs in addition to its bytes: it is compared with each that is sent.
const OVERHEAD: usize = 256;

/// Replaces known secrets, also in common encodings.
pub struct Redactor {
    fixed: Needles,
    learned: Mutex<Learned>,
    /// For long texts.
    pub(crate) aside: Aside,
}

/// Secret values of headers.
#[derive(Default)]
struct Learned {
    /// Those that were sent last come last.
    values: VecDeque<Zeroizing<String>>,
    /// Of `values`; made when they are next looked for.
    needles: Option<Arc<Needles>>,
}

impl Redactor {
    /// Masks these secrets. One of several lines is also masked line by line, as logs are written.
    pub fn new<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Self {
        Self {
            fixed: Needles::new(secrets),
            learned: Mutex::default(),
            aside: Aside::default(),
        }
    }

    /// Masks the value of a header from now on: the whole, and the credential in it.
    pub(crate) fn learn(&self, value: &str) {
        let mut learned = self.learned();
        if let Some(known) = learned.values.iter().position(|known| known.as_str() == value) {
            // In place of a removal and an insertion, which would wipe it.
            learned.values.make_contiguous()[known..].rotate_left(1);
            return;
        }
        learned.values.push_back(Zeroizing::new(value.to_owned()));
        learned.needles = None;
        let mut bytes = learned.bytes();
        while bytes > LEARNED && learned.values.len() > 1 {
            bytes -= learned.values.pop_front().map_or(0, |oldest| oldest.len() + OVERHEAD);
        }
    }

    /// The first `limit` bytes of the line without hidden characters, masked. U+FFFD replaces what is not UTF-8.
    pub fn redact(&self, line: &[u8], limit: usize) -> String {
        let is_cut = line.len() >= limit.saturating_add(LONGEST);
        let learned = self.learned().needles();
        let text = String::from_utf8_lossy(line);
        let text = without_hidden(&text);
        let text = text.as_bytes();
        // Where a line was cut, and is shorter without hidden characters, a part of a secret may be at its end.
        let uncertain = if is_cut { LONGEST } else { 0 };
        let end = text.len().saturating_sub(uncertain).min(limit);
        let mut out = Vec::with_capacity(end);
        let mut at = 0;
        for found in masking::found(&[&self.fixed, &learned], text, end) {
            out.extend_from_slice(&text[at..found.start]);
            out.extend_from_slice(MASK.as_bytes());
            at = found.end;
        }
        out.extend_from_slice(text.get(at..end).unwrap_or_default());
        String::from_utf8_lossy(&out).into_owned()
    }

    /// The text with its secrets of at least `shortest` bytes masked, also those that hidden characters interrupt; `None` if there are none. Other hidden
    /// characters are kept.
    pub(crate) fn mask(&self, text: &str, shortest: usize) -> Option<String> {
        let learned = self.learned().needles();
        masking::mask(text, MASK, &[&self.fixed, &learned], shortest)
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Learned {
    fn bytes(&self) -> usize {
        self.values.iter().map(|value| value.len() + OVERHEAD).sum()
    }

    fn needles(&mut self) -> Arc<Needles> {
        let values = &self.values;
        let needles = self
            .needles
            .get_or_insert_with(|| Arc::new(Needles::new(values.iter().flat_map(|value| masking::of_header(value)))));
        Arc::clone(needles)
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};

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
            r"s3cr3t/\u00dcn\u00ef +value".to_owned(),
            r"s3cr3t\\/\\u00dcn\\u00ef +value".to_owned(),
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
    fn masks_each_line_of_an_encoding_that_is_wrapped() {
        let secret = format!("tok_{}", "Qz7mP0vK2xW9bN4c".repeat(5));
        let redactor = Redactor::new([&secret]);
        for encoded in [
            BASE64.encode(secret.as_bytes()),
            BASE64.encode(format!("{secret}\n").as_bytes()),
            HEXLOWER.encode(secret.as_bytes()),
        ] {
            for columns in [60, 64, 76] {
                for line in encoded.as_bytes().chunks(columns) {
                    // What is left depends on a line feed that was encoded, too, or is of no use.
                    let shown = redactor.redact(line, 1000);
                    assert!(shown.starts_with(MASK) && shown.len() <= MASK.len() + 4, "{shown}");
                }
            }
        }
    }

    #[test]
    fn masks_the_password_in_a_url() {
        let redactor = Redactor::new(["postgres://app:hunter2-Passw0rd@db.corp/x"]);
        let said = b"FATAL: app: wrong password hunter2-Passw0rd for db.corp";
        assert_eq!(
            redactor.redact(said, 1000),
            "FATAL: app: wrong password [redacted] for db.corp"
        );
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
    fn masks_what_hidden_characters_interrupt() {
        let redactor = Redactor::new(["s3cr3t-canary", "first\rsecond"]);
        let utf16: Vec<u8> = "key s3cr3t-canary.".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for line in [
            b"key s3cr\r3t-canary.".as_slice(),
            b"key s3cr3t\0-cana\x07ry\x1b.",
            "key s3cr\u{85}3t-canary.".as_bytes(),
            b"key first\rsecond.",
            "key s3cr\u{200b}3t-\u{2028}can\u{202e}ary.".as_bytes(),
            &utf16,
        ] {
            assert_eq!(redactor.redact(line, 1000), "key [redacted].", "{line:?}");
            let text = String::from_utf8_lossy(line);
            let masked = redactor.mask(&text, 0).unwrap();
            assert_eq!(without_hidden(&masked), "key [redacted].");
        }
        assert_eq!(redactor.mask("nothing\n", 0), None);
    }

    /// The bytes that are read behind the limit may be control characters.
    #[test]
    fn leaves_no_part_of_an_interrupted_secret_at_the_cut() {
        let redactor = Redactor::new(["s3cr3t-canary"]);
        let mut line = b"-\0".repeat(4000);
        line.extend(b"s3cr3t-canary".iter().flat_map(|byte| [*byte, 0]));
        line.truncate(8012);
        line.resize(8012 + LONGEST, 0);
        let shown = redactor.redact(&line, 8012);
        assert!(!shown.contains("s3c"), "{}", &shown[shown.len() - 20..]);
    }

    #[test]
    fn a_cut_line_of_many_control_characters_is_shown() {
        let (redactor, limit) = (Redactor::new(["s3cr3t-canary"]), 8_000);
        let line = b"-\0".repeat(limit);
        let shown = redactor.redact(&line[..limit + LONGEST], limit);
        assert!(shown.len() > limit / 2 - LONGEST, "{}", shown.len());
    }

    #[test]
    fn masks_headers_from_when_they_are_sent() {
        let redactor = Redactor::new(["hunter2-fixed"]);
        let said = b"got basic-password, bearer-key and hunter2-fixed";
        assert_eq!(
            redactor.redact(said, 1000),
            "got basic-password, bearer-key and [redacted]"
        );
        redactor.learn("Bearer bearer-key");
        redactor.learn(&format!("Basic {}", BASE64.encode(b"me:basic-password")));
        assert_eq!(redactor.redact(said, 1000), "got [redacted], [redacted] and [redacted]");
        assert_eq!(redactor.redact(b"Bearer bearer-key", 1000), MASK);
    }

    #[test]
    fn forgets_the_headers_that_were_not_sent_for_the_longest_time() {
        let redactor = Redactor::new::<&str>([]);
        let value = |n: usize| format!("{n:06}{}", "x".repeat(LEARNED / 4 - 6));
        redactor.learn("used-again");
        redactor.learn("not-used-again");
        redactor.learn("used-again");
        (0..4).for_each(|n| {
            redactor.learn(&value(n));
            redactor.learn("used-again");
        });
        let said = redactor.redact(b"used-again not-used-again", 1000);
        assert_eq!(said, "[redacted] not-[redacted]");
        assert!(redactor.learned().bytes() <= LEARNED);
    }

    #[test]
    fn leaves_no_part_of_a_secret_at_the_cut() {
        let redactor = Redactor::new(["abcdefgh"]);
        assert_eq!(redactor.redact(b"123 abcdefgh", 7), "123 [redacted]");
        assert_eq!(redactor.redact(b"a\xff", 7), "a\u{fffd}");
        assert!(!format!("{redactor:?}").contains("abc"));
    }
}
