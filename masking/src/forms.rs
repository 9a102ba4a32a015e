//! How a secret may be written.

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER};
use zeroize::Zeroizing;

use crate::{escapes, hidden::without_hidden, pieces::Forms};

/// A shorter secret is looked for only as it is, and masked only where it is a whole word: otherwise, it would mask parts of every line.
pub(crate) const SHORT: usize = 4;
/// The same for what is certain of it inside the base64 of a longer text.
const SHORT_INNER: usize = 6;

/// Adds the secret as it is and in common encodings.
pub(crate) fn add(secret: &str, out: &mut Forms) {
    let bytes = secret.as_bytes();
    out.push(bytes.to_vec());
    // As it is in a text without hidden characters.
    out.push(without_hidden(secret).into_owned().into_bytes());
    if bytes.len() < SHORT {
        return;
    }
    for encoding in [&BASE64, &BASE64_NOPAD, &BASE64URL, &BASE64URL_NOPAD, &HEXLOWER] {
        out.push(encoding.encode(bytes).into_bytes());
    }
    // Inside longer base64, as in `user:secret`, the secret can begin at one of three offsets. The characters that also encode its neighbours are left
    // out.
    for skip in 0..3 {
        let padded = Zeroizing::new([&[0; 2][..skip], bytes].concat());
        let whole = padded.len() / 3 * 3;
        for encoding in [&BASE64_NOPAD, &BASE64URL_NOPAD] {
            let encoded = Zeroizing::new(encoding.encode(&padded[..whole]));
            let inner = encoded.get(if skip == 0 { 0 } else { 4 }..).unwrap_or_default();
            if inner.len() >= SHORT_INNER {
                out.push(inner.as_bytes().to_vec());
            }
        }
    }
    for (kept, blank) in PERCENT {
        out.push(percent(bytes, kept, blank));
    }
    escapes::add(secret, out);
}

/// Adds the lines of a secret's encodings that are wrapped: a log has each line apart, and elsewhere they may be indented. Those of a longer text that
/// has the secret in it are not known.
pub(crate) fn add_wrapped(secret: &str, out: &mut Forms) {
    let bytes = secret.as_bytes();
    // The last characters depend on whether a line feed was encoded, too.
    let whole = bytes.len() / 3 * 3;
    for encoding in [&BASE64_NOPAD, &BASE64URL_NOPAD, &HEXLOWER] {
        for bytes in [bytes, &bytes[..whole]] {
            let encoded = Zeroizing::new(encoding.encode(bytes));
            for columns in COLUMNS {
                let lines = encoded.as_bytes().chunks(columns).filter(|_| encoded.len() > columns);
                lines
                    .filter(|line| line.len() >= SHORT_INNER)
                    .for_each(|line| out.push(line.to_vec()));
            }
        }
    }
}

/// Where encoders wrap: `xxd -p` and Ruby, PEM (RFC 7468), MIME (RFC 2045).
const COLUMNS: [usize; 3] = [60, 64, 76];

/// What encoders keep beside letters, digits and `-._`, and what a blank becomes. Where they agree on a secret, one needle remains.
const PERCENT: [(&[u8], &[u8]); 6] = [
    // RFC 3986, and the same for forms.
    (b"~", b"%20"),
    (b"~", b"+"),
    // JavaScript: `encodeURIComponent`, `URLSearchParams`, `encodeURI`; the last is nearly what Python's requests does to a URL.
    (b"~!'()*", b"%20"),
    (b"*", b"+"),
    (b"~!'()*;/?:@&=+$,#", b"%20"),
    // Python: `urllib.parse.quote`.
    (b"~/", b"%20"),
];

// Allocates once: what a smaller allocation was copied from would not be wiped.
fn percent(bytes: &[u8], kept: &[u8], blank: &[u8]) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut out = Vec::with_capacity(bytes.len() * 3);
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => out.push(byte),
            b' ' => out.extend(blank),
            _ if kept.contains(&byte) => out.push(byte),
            _ => out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::Form;

    fn forms(add: impl Fn(&mut Forms)) -> Vec<String> {
        let mut forms = Forms::default();
        add(&mut forms);
        let text = |form: &Form| String::from_utf8(form.to_vec()).unwrap();
        forms.sorted().iter().map(text).collect()
    }

    #[test]
    fn has_what_usual_encoders_write() {
        let forms = forms(|forms| add("a!'(b)*/c d~e+f=?", forms));
        for written in [
            "a!'(b)*%2Fc%20d~e%2Bf%3D%3F",
            "a%21%27%28b%29*%2Fc+d%7Ee%2Bf%3D%3F",
            "a!'(b)*/c%20d~e+f=?",
            "a%21%27%28b%29%2A/c%20d~e%2Bf%3D%3F",
        ] {
            let written = written.to_ascii_lowercase();
            assert!(forms.contains(&written), "{written}");
        }
    }

    #[test]
    fn has_each_line_of_what_usual_encoders_wrap() {
        for length in 60..200 {
            let secret: String = ('!'..='~').cycle().take(length).collect();
            let forms = forms(|forms| add_wrapped(&secret, forms));
            for encoded in [BASE64.encode(secret.as_bytes()), HEXLOWER.encode(secret.as_bytes())] {
                for columns in [60, 64, 76] {
                    let lines = encoded.as_bytes().chunks(columns);
                    for line in lines.map(|line| String::from_utf8(line.to_ascii_lowercase()).unwrap()) {
                        let line = line.trim_end_matches('=');
                        assert!(line.len() < SHORT_INNER || forms.contains(&line.to_owned()), "{line}");
                    }
                }
            }
        }
        assert_eq!(forms(|forms| add_wrapped("of one line", forms)), [""; 0]);
    }
}
