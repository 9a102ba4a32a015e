//! The challenges of a `WWW-Authenticate` header (RFC 9110, section 11.6.1).

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// The largest header that is read.
const MAX_HEADER: usize = 8 << 10;

/// What the first Bearer challenge says. Empty texts are missing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Challenge {
    /// RFC 9728, section 5.1.
    pub(super) resource_metadata: String,
    /// RFC 6750, section 3.
    pub(super) scope: String,
}

impl Challenge {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(WWW_AUTHENTICATE).iter();
        values.find_map(|value| {
            let bytes = value.as_bytes();
            Self::parse(&String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_HEADER)]))
        })
    }

    fn parse(header: &str) -> Option<Self> {
        let mut found: Option<Self> = None;
        let mut rest = header;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',', '=']);
            let (token, after) = rest.split_at(rest.find(|c| !is_token(c)).unwrap_or(rest.len()));
            if token.is_empty() {
                // Neither a token nor a separator: what follows cannot be read.
                return found;
            }
            let after = after.trim_start_matches([' ', '\t']);
            let Some(value) = after.strip_prefix('=') else {
                // The next scheme, or credentials of another.
                if found.is_some() {
                    return found;
                }
                found = token.eq_ignore_ascii_case("bearer").then(Self::default);
                rest = after;
                continue;
            };
            let (value, after) = value_of(value.trim_start_matches([' ', '\t']));
            rest = after;
            match &mut found {
                Some(challenge) if token.eq_ignore_ascii_case("resource_metadata") => {
                    challenge.resource_metadata = value
                }
                Some(challenge) if token.eq_ignore_ascii_case("scope") => challenge.scope = value,
                _ => {}
            }
        }
    }
}

/// A token or a quoted string, and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        // Wider than a token: some servers do not quote URLs.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_bearer_challenge() {
        let read = |header: &str| {
            let challenge = Challenge::parse(header)?;
            Some((challenge.resource_metadata, challenge.scope))
        };
        let some = |metadata: &str, scope: &str| Some((metadata.to_owned(), scope.to_owned()));
        assert_eq!(
            read(r#"Bearer realm="a, b", error="invalid_token", resource_metadata="https://x/y", scope="r w""#),
            some("https://x/y", "r w")
        );
        assert_eq!(
            read(r#"Basic realm="Bearer resource_metadata=\"no\"", bearer Resource_Metadata = "https://x""#),
            some("https://x", "")
        );
        assert_eq!(read("Negotiate YWJj==, Bearer scope=r"), some("", "r"));
        assert_eq!(
            read(r#"Bearer resource_metadata=https://x/y?a=b, Basic scope="no""#),
            some("https://x/y?a=b", "")
        );
        assert_eq!(read("Bearer"), some("", ""));
        assert_eq!(read(r#"Bearer scope="unfinished \"#), some("", "unfinished "));
        assert_eq!(read("Bearer \u{fffd}"), some("", ""));
        assert_eq!(read(r#"Basic realm="x""#), None);
        assert_eq!(read(""), None);
    }
}
