//! What an upstream demands by `WWW-Authenticate` (RFC 6750, section 3; RFC 9110, section 11).

use http::{HeaderMap, StatusCode, header::WWW_AUTHENTICATE};

use super::{error::UpstreamError, response::Response};

/// More scopes than this are not taken, nor longer ones: no entry can have them.
const MAX_SCOPES: usize = 100;
const MAX_SCOPE: usize = 200;

/// The refusal of the credential that a response is, if it is one. The request was not carried out.
pub(super) fn refusal<B>(response: &Response<B>) -> Option<UpstreamError> {
    match response.status() {
        StatusCode::UNAUTHORIZED => Some(UpstreamError::Unauthorized),
        StatusCode::FORBIDDEN => demanded(response.headers()).map(|scopes| UpstreamError::InsufficientScope { scopes }),
        _ => None,
    }
}

/// The scopes that the headers of a 403 demand, separated by spaces: none where the upstream does not say which. `None` if scopes are not what
/// it demands.
fn demanded(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    // A description may have bytes of any encoding (obs-text; RFC 9110, section 5.5).
    let mut challenges = values.flat_map(|value| challenges(&String::from_utf8_lossy(value.as_bytes())));
    let challenge = challenges.find(|challenge| challenge.error.as_deref() == Some("insufficient_scope"))?;
    let mut scopes: Vec<&str> = Vec::new();
    for scope in challenge.scope.as_deref().unwrap_or_default().split(' ') {
        if scopes.len() < MAX_SCOPES && is_scope(scope) && !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    Some(scopes.join(" "))
}

/// A scope-token (RFC 6749, section 3.3).
fn is_scope(scope: &str) -> bool {
    let permitted = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    (1..=MAX_SCOPE).contains(&scope.len()) && scope.bytes().all(permitted)
}

/// A challenge of the scheme `Bearer`.
#[derive(Default)]
struct Challenge {
    error: Option<String>,
    scope: Option<String>,
}

/// The Bearer challenges of a header. Challenges are separated by commas, and so are their parameters: a name without a value is a scheme.
fn challenges(value: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut bearer = false;
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let length = rest.bytes().take_while(|byte| is_token(*byte)).count();
        if length == 0 {
            return found;
        }
        let (name, after) = rest.split_at(length);
        let Some(after) = after.trim_start_matches([' ', '\t']).strip_prefix('=') else {
            bearer = name.eq_ignore_ascii_case("bearer");
            if bearer {
                found.push(Challenge::default());
            }
            rest = after;
            continue;
        };
        let Some((value, after)) = parameter(after.trim_start_matches([' ', '\t'])) else {
            return found;
        };
        rest = after;
        if let Some(challenge) = found.last_mut().filter(|_| bearer) {
            // A parameter occurs once: a second one is not looked at.
            match name.to_ascii_lowercase().as_str() {
                "error" => drop(challenge.error.get_or_insert(value)),
                "scope" => drop(challenge.scope.get_or_insert(value)),
                _ => {}
            }
        }
    }
}

/// The value at the beginning, a token or a quoted string, and what follows. Some write a URL without quotes, though it is no token.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = text.split_at(text.find([',', ' ', '\t']).unwrap_or(text.len()));
        return Some((value.to_owned(), after));
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (index, character) in quoted.char_indices() {
        match character {
            _ if escaped => {
                value.push(character);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((value, &quoted[index + 1..])),
            _ => value.push(character),
        }
    }
    None
}

/// RFC 9110, section 5.6.2, and the further characters of a token68.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&byte)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(values: &[&str]) -> Option<String> {
        of_bytes(values.iter().map(|value| value.as_bytes()))
    }

    fn of_bytes<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(value).unwrap());
        }
        demanded(&headers)
    }

    #[test]
    fn scopes_are_read_as_they_are_written() {
        for (value, expected) in [
            (
                r#"Bearer error="insufficient_scope", scope="read write""#,
                Some("read write"),
            ),
            (
                r#"bearer scope="a b",error=insufficient_scope,realm="x, Basic y""#,
                Some("a b"),
            ),
            (
                r#"Basic realm="a", Bearer realm="b", error="insufficient_scope", scope=c"#,
                Some("c"),
            ),
            (
                r#"Negotiate YWI/Yw==, Bearer error="insufficient_scope" , scope = "d""#,
                Some("d"),
            ),
            (
                r#"Bearer error="insufficient_scope", scope="a \"q\" b c\\d a""#,
                Some("a b"),
            ),
            (
                r#"Bearer resource_metadata=http://a.example/b?c=d, error="insufficient_scope", scope="e""#,
                Some("e"),
            ),
            (
                r#"Bearer error="insufficient_scope", error_description="für «größere» Rechte", scope="f""#,
                Some("f"),
            ),
            (r#"Bearer error="insufficient_scope""#, Some("")),
            (r#"Bearer scope="e", error="insufficient_scope", scope="f""#, Some("e")),
            (r#"DPoP error="insufficient_scope", scope="g""#, None),
            (r#"Bearer error="invalid_token", scope="h""#, None),
            (r#"Bearer error="insufficient_scope"#, None),
            ("Bearer", None),
            ("", None),
            ("=\"", None),
        ] {
            assert_eq!(of(&[value]).as_deref(), expected, "{value}");
        }
        let second = r#"Bearer error="insufficient_scope", scope="z""#;
        assert_eq!(of(&["Basic realm=\"x\"", second]).as_deref(), Some("z"));
        assert_eq!(of(&[]), None);
        let latin = b"Bearer error_description=\"f\xfcr\", error=\"insufficient_scope\", scope=\"y\"";
        assert_eq!(of_bytes([&latin[..]].into_iter()).as_deref(), Some("y"));
    }

    #[test]
    fn scopes_are_bounded() {
        let many: Vec<String> = (0..1000).map(|n| format!("s{n}")).collect();
        let (many, long) = (many.join(" "), "x".repeat(MAX_SCOPE + 1));
        let value = format!(r#"Bearer error="insufficient_scope", scope="{long} {many}""#);
        let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::try_from(value).unwrap())]);
        let scopes = demanded(&headers).unwrap();
        assert_eq!(scopes.split(' ').count(), MAX_SCOPES);
        assert!(scopes.starts_with("s0 s1 "), "{scopes}");
    }
}
