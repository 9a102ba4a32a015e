//! The passwords in the URLs of environment variables, such as that of a proxy or of a package registry.

use url::form_urlencoded;

/// What to mask of these values in what a server writes: the userinfo of each URL (RFC 3986, section 3.2.1), and the password in it, also decoded.
pub(super) fn secrets<'a>(values: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    // A list of package registries is separated by spaces.
    let words = values.into_iter().flat_map(|value| value.split_whitespace());
    words.filter_map(userinfo).flat_map(parts).collect()
}

/// The userinfo of a URL, or of `user:password@host:port`, which is also in use for proxies. The part before the `@` of an e-mail address is none.
fn userinfo(word: &str) -> Option<&str> {
    let (is_url, rest) = match word.split_once("://") {
        Some((_, rest)) => (true, rest),
        None => (false, word),
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    // A password may contain an `@` that is not encoded.
    let (userinfo, _) = authority.rsplit_once('@')?;
    (is_url || userinfo.contains(':')).then_some(userinfo)
}

fn parts(userinfo: &str) -> Vec<String> {
    let mut parts = vec![userinfo.to_owned()];
    if let Some((_, password)) = userinfo.split_once(':') {
        // Unlike in a form, `+` and `&` stand for themselves.
        let escaped = format!("={}", password.replace('+', "%2B").replace('&', "%26"));
        parts.extend(form_urlencoded::parse(escaped.as_bytes()).map(|(_, decoded)| decoded.into_owned()));
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
            ("http://proxy:3128/a:b@c", vec![]),
            ("me@example.com", vec![]),
            ("localhost,127.0.0.1", vec![]),
        ] {
            assert_eq!(secrets([&value.to_owned()]), expected, "{value}");
        }
    }
}
