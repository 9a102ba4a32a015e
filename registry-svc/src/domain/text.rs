//! Texts that people send: slugs, labels, URLs, resource names; what each may be, and where a violation lies.

use std::collections::HashMap;

use service_kit::status::Violations;
use url::Url;

/// The most labels an entry, gateway or agent carries.
const MAX_LABELS: usize = 64;
/// The longest label key or value.
const MAX_LABEL: usize = 63;
/// The longest slug.
const MAX_SLUG: usize = 40;
/// The longest URL.
const MAX_URL: usize = 2_048;

/// What a slug must be, as people read it.
pub(crate) const SLUG_RULE: &str = "must be 1 to 40 of a-z, 0-9 and -, beginning and ending with a letter or digit";

/// Whether this is `[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?`.
pub(crate) fn is_slug(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= MAX_SLUG
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
}

/// The id in `{collection}/{id}`; `None` if the name is of another collection or has more parts. The id itself is not checked.
pub(crate) fn id_in<'a>(collection: &str, name: &'a str) -> Option<&'a str> {
    let id = name.strip_prefix(collection)?.strip_prefix('/')?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

/// Checks the length in characters, and that no control character but line breaks and tabs is in it.
pub(crate) fn check_text(violations: &mut Violations, path: &str, text: &str, max: usize) {
    if text.chars().count() > max {
        violations.add(path, format!("must have at most {max} characters"));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        violations.add(path, "must not contain control characters");
    }
}

/// As [`check_text`], for what is shown on one line.
pub(crate) fn check_line(violations: &mut Violations, path: &str, text: &str, max: usize) {
    if text.chars().count() > max {
        violations.add(path, format!("must have at most {max} characters"));
    }
    if text.chars().any(char::is_control) {
        violations.add(path, "must be one line without control characters");
    }
}

/// Checks labels: their number, keys and values.
pub(crate) fn check_labels(violations: &mut Violations, path: &str, labels: &HashMap<String, String>) {
    if labels.len() > MAX_LABELS {
        violations.add(path, format!("must have at most {MAX_LABELS} elements"));
        return;
    }
    let mut sorted: Vec<_> = labels.iter().collect();
    sorted.sort();
    for (key, value) in sorted {
        if !is_label(key) {
            violations.add(format!("{path}[{key}]"), format!("the key {LABEL_RULE}"));
        }
        if !is_label(value) {
            violations.add(format!("{path}[{key}]"), format!("the value {LABEL_RULE}"));
        }
    }
}

const LABEL_RULE: &str = "must be 1 to 63 of A-Z, a-z, 0-9, _ . / and -, beginning and ending with a letter or digit";

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= MAX_LABEL
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_./-".contains(byte))
}

/// Checks a link that people follow: empty, or one of `schemes`, with a host and without user information.
pub(crate) fn check_link(violations: &mut Violations, path: &str, text: &str, schemes: &[&str]) {
    if text.is_empty() {
        return;
    }
    let valid = text.len() <= MAX_URL
        && Url::parse(text).is_ok_and(|url| {
            schemes.contains(&url.scheme()) && url.has_host() && url.username().is_empty() && url.password().is_none()
        });
    if !valid {
        let schemes = schemes.join(" or ");
        violations.add(
            path,
            format!("must be an {schemes} URL without user information, of at most {MAX_URL} bytes"),
        );
    }
}

/// Parses a URL that Chandlery is to connect to. The caller checks it against the egress policy.
pub(crate) fn parse_url(text: &str) -> Result<Url, String> {
    if text.len() > MAX_URL {
        return Err(format!("must have at most {MAX_URL} bytes"));
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("must not contain spaces or control characters".to_owned());
    }
    Url::parse(text).map_err(|_| "must be an http or https URL, such as https://mcp.example.com/mcp".to_owned())
}

/// Whether this is `[A-Za-z_][A-Za-z0-9_]*`, of at most 128.
pub(crate) fn is_environment_variable(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= 128
        && bytes
            .first()
            .is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// Whether this is a path below a folder, however the two are joined: relative, no `.` or `..`, no empty part, no backslash.
pub(crate) fn is_path_below(text: &str) -> bool {
    text.len() <= 255
        && !text.chars().any(|c| c.is_control() || c == '\\')
        && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Whether a text has the form of a UUID, as request ids must.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(violations: &Violations) -> Vec<&str> {
        violations.iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn knows_slugs() {
        let long = "a".repeat(41);
        for slug in ["a", "a-b", "0", "time-server-2", &long[..40]] {
            assert!(is_slug(slug), "{slug}");
        }
        for slug in ["", "-a", "a-", "A", "a_b", "a.b", "ä", "a/b", "a b", "a\n", &long] {
            assert!(!is_slug(slug), "{slug:?}");
        }
    }

    #[test]
    fn takes_names_of_one_collection() {
        assert_eq!(id_in("entries", "entries/a"), Some("a"));
        for name in ["entries/", "entries", "entries/a/b", "entry/a", "/entries/a", ""] {
            assert_eq!(id_in("entries", name), None, "{name}");
        }
    }

    #[test]
    fn names_each_bad_label() {
        let labels = [("ok", "fine"), ("-a", "x"), ("b", ""), ("c", "ü")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let mut violations = Violations::new();
        check_labels(&mut violations, "entry.labels", &labels);
        assert_eq!(
            fields(&violations),
            ["entry.labels[-a]", "entry.labels[b]", "entry.labels[c]"]
        );
    }

    #[test]
    fn keeps_paths_below_their_folder() {
        for path in ["a", "a/b.json", ".config/x", "..a"] {
            assert!(is_path_below(path), "{path}");
        }
        for path in ["", "/a", "../a", "a/../b", "a//b", "a/", "./a", "a\\b", "a\0"] {
            assert!(!is_path_below(path), "{path:?}");
        }
    }

    #[test]
    fn takes_links_of_the_given_schemes() {
        for (link, taken) in [
            ("", true),
            ("https://a.example/x.png", true),
            ("http://a.example/", false),
            ("javascript:alert(1)", false),
            ("https://u:p@a.example/", false),
            ("a.png", false),
            ("data:image/png;base64,AA", false),
        ] {
            let mut violations = Violations::new();
            check_link(&mut violations, "entry.icon_url", link, &["https"]);
            assert_eq!(violations.is_empty(), taken, "{link}");
        }
    }
}
