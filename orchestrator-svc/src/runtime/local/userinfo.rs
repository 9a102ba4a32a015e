//! The passwords in the URLs of environment variables, such as that of a proxy or of a package registry.

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

/// What to mask of these values in what a server writes, for a spec, which wipes it: the userinfo of each URL (RFC 3986, section 3.2.1), and the password in it, also decoded.
pub(super) fn secrets<'a>(values: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    // A list of package registries is separated by spaces.
    let words = values.into_iter().flat_map(|value| value.split_whitespace());
    words.flat_map(userinfos).flat_map(parts).collect()
}

/// The userinfo of each URL in the word, whatever separates them, or of `user:password@host:port`, which is also in use for proxies. The part
/// before the `@` of an e-mail address is none.
fn userinfos(word: &str) -> Vec<&str> {
    let urls: Vec<&str> = word.split("://").skip(1).filter_map(userinfo).collect();
    if word.contains("://") {
        urls
    } else {
        userinfo(word)
            .filter(|userinfo| userinfo.contains(':'))
            .into_iter()
            .collect()
    }
}

/// What precedes the host. `rest` follows the scheme.
fn userinfo(rest: &str) -> Option<&str> {
    let authority = rest.split(['/', '?', '#']).next()?;
    // A password may contain an `@` that is not encoded.
    Some(authority.rsplit_once('@')?.0)
}

fn parts(userinfo: &str) -> Vec<String> {
    let mut parts = vec![userinfo.to_owned()];
    if let Some((_, password)) = userinfo.split_once(':') {
        // In one allocation: what a smaller one was copied from would not be wiped.
        let mut decoded = Zeroizing::new(Vec::with_capacity(password.len()));
        decoded.extend(percent_decode_str(password));
        parts.push(String::from_utf8_lossy(&decoded).into_owned());
        parts.push(password.to_owned());
    }
    parts
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn finds_what_precedes_the_host_of_a_url() {
        for (value, expected) in [
            (
                "http://me:p%40ss+1&2@proxy:3128/",
                vec!["me:p%40ss+1&2", "p@ss+1&2", "p%40ss+1&2"],
            ),
            ("me:p@ss@proxy:3128", vec!["me:p@ss", "p@ss", "p@ss"]),
            ("https://a.example https://token@b.example/simple", vec!["token"]),
            (
                "https://u:p1@a/,https://u:p2@b",
                vec!["u:p1", "p1", "p1", "u:p2", "p2", "p2"],
            ),
            (
                "https://u:p1@a,https://u:p2@b|direct",
                vec!["u:p1", "p1", "p1", "u:p2", "p2", "p2"],
            ),
            ("http://proxy:3128/a:b@c", vec![]),
            ("me@example.com", vec![]),
            ("localhost,127.0.0.1", vec![]),
        ] {
            assert_eq!(secrets([&value.to_owned()]), expected, "{value}");
        }
    }
}
