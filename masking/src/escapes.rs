//! How JSON and HTML have a secret.

use zeroize::Zeroizing;

use crate::pieces::{Form, Forms};

/// What encoders of JSON escape in addition to what they must: these characters, and whether all that are not ASCII. `/` becomes `\/`, others `\uXXXX`.
const JSON: [(&str, bool); 8] = [
    // `JSON.stringify`, and most others.
    ("", false),
    // Python.
    ("", true),
    // PHP, also with `JSON_UNESCAPED_UNICODE`.
    ("/", true),
    ("/", false),
    // Go, Rails.
    ("&<>", false),
    // Django's `json_script`.
    ("&<>", true),
    // Gson.
    ("&<>='", false),
    // .NET.
    ("&<>'\"+`", true),
];

/// How encoders of HTML and XML write a quotation mark and an apostrophe.
const QUOTES: [(&str, &str); 6] = [
    // In a text, neither need be escaped.
    ("\"", "'"),
    // Browsers, in an attribute.
    ("&quot;", "'"),
    // Python, Handlebars.
    ("&quot;", "&#x27;"),
    // PHP, Ruby, Lodash.
    ("&quot;", "&#39;"),
    // Go, Jinja.
    ("&#34;", "&#39;"),
    // XML.
    ("&quot;", "&apos;"),
];

/// Adds the secret as it is in a JSON string, in JSON in a JSON string, such as the body of a request in a log, and in HTML; nothing where that is the
/// secret as it is.
pub(crate) fn add(secret: &str, out: &mut Forms) {
    let once = JSON.iter().map(|(escaped, unicode)| json(secret, escaped, *unicode));
    let mut forms: Vec<Form> = once.collect();
    let twice = forms.iter().filter_map(|json| backslashed(json));
    let twice: Vec<Form> = twice.collect();
    forms.extend(twice);
    if secret.contains(['&', '<', '>', '"', '\'']) {
        forms.extend(QUOTES.iter().map(|(quote, apostrophe)| html(secret, quote, apostrophe)));
    }
    // Most encoders agree on most secrets, and a secret may have thousands of lines: they are not all kept until all lines are sorted.
    forms.sort_unstable_by(|a, b| a.as_slice().cmp(b.as_slice()));
    forms.dedup();
    let other = forms.iter().filter(|form| form.as_slice() != secret.as_bytes());
    other.for_each(|form| out.push(form.to_vec()));
}

// All allocate once: what a smaller allocation was copied from would not be wiped.

fn json(secret: &str, escaped: &str, unicode: bool) -> Form {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    // Each byte has at most six: `\u0000`.
    let mut out = Zeroizing::new(Vec::with_capacity(secret.len() * 6));
    for c in secret.chars() {
        let short = match c {
            '\u{8}' => Some(b'b'),
            '\t' => Some(b't'),
            '\n' => Some(b'n'),
            '\u{c}' => Some(b'f'),
            '\r' => Some(b'r'),
            '/' if escaped.contains(c) => Some(b'/'),
            '\0'..' ' => None,
            _ if escaped.contains(c) || unicode && !c.is_ascii() => None,
            '\\' => Some(b'\\'),
            '"' => Some(b'"'),
            _ => {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
        };
        if let Some(short) = short {
            out.extend([b'\\', short]);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            out.extend_from_slice(b"\\u");
            out.extend([12, 8, 4, 0].map(|shift| HEX[usize::from(*unit >> shift & 15)]));
        }
    }
    out
}

/// JSON as it is in a JSON string, unless that is the same.
fn backslashed(json: &[u8]) -> Option<Form> {
    let count = json.iter().filter(|byte| b"\\\"".contains(byte)).count();
    let mut out = Zeroizing::new(Vec::with_capacity(json.len() + count));
    for &byte in json {
        if b"\\\"".contains(&byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
    (count > 0).then_some(out)
}

fn html(secret: &str, quote: &str, apostrophe: &str) -> Form {
    // Each byte has at most six: `&quot;`.
    let mut out = Zeroizing::new(Vec::with_capacity(secret.len() * 6));
    for &byte in secret.as_bytes() {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'"' => out.extend_from_slice(quote.as_bytes()),
            b'\'' => out.extend_from_slice(apostrophe.as_bytes()),
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn forms(secret: &str) -> Vec<String> {
        let mut forms = Forms::default();
        add(secret, &mut forms);
        let text = |form: &Form| String::from_utf8(form.to_vec()).unwrap();
        forms.sorted().iter().map(text).collect()
    }

    fn has(secret: &str, written: &[&str]) {
        let forms = forms(secret);
        for written in written {
            assert!(forms.contains(&written.to_ascii_lowercase()), "{written} in {forms:?}");
        }
    }

    #[test]
    fn has_what_encoders_of_json_write() {
        let secret = "Zug&Schlüssel<\"73/91\"+='\u{1f511}\n";
        has(
            secret,
            &[
                r#"Zug&Schlüssel<\"73/91\"+='🔑\n"#,
                r#"Zug&Schl\u00fcssel<\"73/91\"+='\ud83d\udd11\n"#,
                r#"Zug&Schl\u00fcssel<\"73\/91\"+='\ud83d\udd11\n"#,
                r#"Zug&Schlüssel<\"73\/91\"+='🔑\n"#,
                r#"Zug\u0026Schlüssel\u003c\"73/91\"+='🔑\n"#,
                r#"Zug\u0026Schl\u00fcssel\u003c\"73/91\"+='\ud83d\udd11\n"#,
                r#"Zug\u0026Schlüssel\u003c\"73/91\"+\u003d\u0027🔑\n"#,
                r#"Zug\u0026Schl\u00FCssel\u003C\u002273/91\u0022\u002B=\u0027\uD83D\uDD11\n"#,
            ],
        );
    }

    #[test]
    fn has_what_encoders_of_json_write_of_json() {
        has(
            "a\"b\\cü/",
            &[r#"a\\\"b\\\\cü/"#, r#"a\\\"b\\\\c\\u00fc/"#, r#"a\\\"b\\\\c\\u00fc\\/"#],
        );
    }

    #[test]
    fn has_what_encoders_of_html_write() {
        has(
            "<a&\"b'c>",
            &[
                "&lt;a&amp;\"b'c&gt;",
                "&lt;a&amp;&quot;b'c&gt;",
                "&lt;a&amp;&quot;b&#x27;c&gt;",
                "&lt;a&amp;&quot;b&#39;c&gt;",
                "&lt;a&amp;&#34;b&#39;c&gt;",
                "&lt;a&amp;&quot;b&apos;c&gt;",
            ],
        );
    }

    #[test]
    fn has_nothing_of_what_they_leave_as_it_is() {
        assert_eq!(forms("letters 0123-._~"), [""; 0]);
        assert_eq!(forms("a&amp"), ["a&amp;amp", r"a\\u0026amp", r"a\u0026amp"]);
    }
}
