//! How a secret may be written.

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER};
use zeroize::Zeroizing;

use crate::hidden::without_hidden;

/// A shorter secret is looked for only as it is, and masked only where it is a whole word: otherwise, it would mask parts of every line.
pub(crate) const SHORT: usize = 4;
/// The same for what is certain of it inside the base64 of a longer text.
const SHORT_INNER: usize = 6;

pub(crate) type Form = Zeroizing<Vec<u8>>;

/// Adds the secret as it is and in common encodings, all in lower case: see [`crate::found`].
pub(crate) fn add(secret: &str, out: &mut Vec<Form>) {
    let bytes = secret.as_bytes();
    let mut push = |mut form: Vec<u8>| {
        form.make_ascii_lowercase();
        out.push(Zeroizing::new(form));
    };
    push(bytes.to_vec());
    // As it is in a text without hidden characters.
    push(without_hidden(secret).into_owned().into_bytes());
    if bytes.len() < SHORT {
        return;
    }
    for encoding in [&BASE64, &BASE64_NOPAD, &BASE64URL, &BASE64URL_NOPAD, &HEXLOWER] {
        push(encoding.encode(bytes).into_bytes());
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
                push(inner.as_bytes().to_vec());
            }
        }
    }
    for (kept, blank) in PERCENT {
        push(percent(bytes, kept, blank));
    }
    let json = Zeroizing::new(json(secret));
    if bytes.contains(&b'/') {
        push(slashes_escaped(&json));
    }
    push(json.to_vec());
}

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

// All allocate once: what a smaller allocation was copied from would not be wiped.

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

/// As in a JSON string.
fn json(secret: &str) -> Vec<u8> {
    // Each byte has at most six: `\u0000`.
    let mut out = Vec::with_capacity(secret.len() * 6 + 2);
    serde_json::to_writer(&mut out, secret).expect("a string is JSON");
    out.pop();
    out.remove(0);
    out
}

/// As PHP writes it: `\/` for `/`.
fn slashes_escaped(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    for &byte in json {
        if byte == b'/' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_what_usual_encoders_write() {
        let secret = "a!'(b)*/c d~e+f=?";
        let mut forms = Vec::new();
        add(secret, &mut forms);
        for written in [
            "a!'(b)*%2Fc%20d~e%2Bf%3D%3F",
            "a%21%27%28b%29*%2Fc+d%7Ee%2Bf%3D%3F",
            "a!'(b)*/c%20d~e+f=?",
            "a%21%27%28b%29%2A/c%20d~e%2Bf%3D%3F",
            r"a!'(b)*\/c d~e+f=?",
        ] {
            let written = written.to_ascii_lowercase();
            assert!(
                forms.iter().any(|form| form.as_slice() == written.as_bytes()),
                "{written}"
            );
        }
    }
}
