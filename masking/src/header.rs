//! The secrets in a header.

use data_encoding::BASE64;
use zeroize::Zeroizing;

/// The secrets in a header's value: the whole; what follows a scheme such as `Bearer`; what `Basic` encodes (RFC 7617), and the password in it.
pub fn of_header(value: &str) -> Vec<Zeroizing<String>> {
    let mut secrets = vec![Zeroizing::new(value.to_owned())];
    if let Some((scheme, credential)) = value.trim().split_once(' ') {
        secrets.push(Zeroizing::new(credential.to_owned()));
        if scheme.eq_ignore_ascii_case("basic")
            && let Ok(decoded) = BASE64.decode(credential.trim().as_bytes()).map(Zeroizing::new)
            && let Ok(pair) = std::str::from_utf8(&decoded)
        {
            secrets.push(Zeroizing::new(pair.to_owned()));
            secrets.extend(
                pair.split_once(':')
                    .map(|(_, password)| Zeroizing::new(password.to_owned())),
            );
        }
    }
    secrets
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn finds_the_credential_and_what_it_encodes() {
        let of = |value: &str| {
            of_header(value)
                .iter()
                .map(|secret| secret.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(of("key"), ["key"]);
        assert_eq!(of("Bearer key"), ["Bearer key", "key"]);
        assert_eq!(of("Basic bWU6cHc="), ["Basic bWU6cHc=", "bWU6cHc=", "me:pw", "pw"]);
    }
}
