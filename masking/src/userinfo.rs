//! The passwords in the URLs in a value: of a database, a proxy, a package registry.

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

/// A shorter password is not looked for alone: `root` or `guest` are in many lines.
const SHORT_PASSWORD: usize = 6;

/// What to mask of a value: the userinfo of each URL in it (RFC 3986, section 3.2.1), and the password in that, also decoded. A password that is also
/// elsewhere in the URL, such as in `postgres://postgres:postgres@localhost`, is the default of a program, and not looked for alone either: it would mask
/// the name of the program, also in the names of tools.
pub fn of_urls(value: &str) -> Vec<Zeroizing<String>> {
    // A list of package registries is separated by spaces.
    value.split_whitespace().flat_map(urls).flat_map(parts).collect()
}

/// A URL with a userinfo: what precedes that, and follows it.
struct Url<'a> {
    scheme: &'a str,
    userinfo: &'a str,
    rest: &'a str,
}

/// Those in the word, whatever separates them, or `user:password@host:port`, which is also in use for proxies and databases. An e-mail address
/// is none.
fn urls(word: &str) -> Vec<Url<'_>> {
    let parts: Vec<&str> = word.split("://").collect();
    match parts[..] {
        [only] => url("", only)
            .filter(|url| url.userinfo.contains(':'))
            .into_iter()
            .collect(),
        _ => parts.windows(2).filter_map(|pair| url(pair[0], pair[1])).collect(),
    }
}

/// `rest` follows the scheme.
fn url<'a>(scheme: &'a str, rest: &'a str) -> Option<Url<'a>> {
    let authority = rest.split(['/', '?', '#']).next()?;
    // A password may contain an `@` that is not encoded.
    let (userinfo, _) = authority.rsplit_once('@')?;
    Some(Url {
        scheme,
        userinfo,
        rest: &rest[userinfo.len()..],
    })
}

fn parts(url: Url<'_>) -> Vec<Zeroizing<String>> {
    let mut parts = vec![Zeroizing::new(url.userinfo.to_owned())];
    if let Some((user, password)) = url.userinfo.split_once(':') {
        // In one allocation: what a smaller one was copied from would not be wiped.
        let mut decoded = Zeroizing::new(Vec::with_capacity(password.len()));
        decoded.extend(percent_decode_str(password));
        let public = [url.scheme, user, url.rest].into_iter().flat_map(words);
        let is_telling = |password: &str| {
            password.len() >= SHORT_PASSWORD && !public.clone().any(|word| word.eq_ignore_ascii_case(password))
        };
        let passwords = [String::from_utf8_lossy(&decoded).into_owned(), password.to_owned()];
        parts.extend(
            passwords
                .map(Zeroizing::new)
                .into_iter()
                .filter(|password| is_telling(password)),
        );
    }
    parts
}

fn words(text: &str) -> impl Iterator<Item = &str> + Clone {
    text.split(|c: char| !c.is_alphanumeric())
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
            ("me:p@ssed@proxy:3128", vec!["me:p@ssed", "p@ssed", "p@ssed"]),
            ("app:hunter2@tcp(db:3306)/x", vec!["app:hunter2", "hunter2", "hunter2"]),
            ("https://a.example https://token@b.example/simple", vec!["token"]),
            (
                "https://u:first1@a/,https://u:second@b",
                vec!["u:first1", "first1", "first1", "u:second", "second", "second"],
            ),
            (
                "https://u:first1@a,https://u:second@b|direct",
                vec!["u:first1", "first1", "first1", "u:second", "second", "second"],
            ),
            ("http://proxy:3128/a:b@c", vec![]),
            ("me@example.com", vec![]),
            ("localhost,127.0.0.1", vec![]),
            ("", vec![]),
        ] {
            let found = of_urls(value);
            assert_eq!(
                found.iter().map(|found| found.as_str()).collect::<Vec<_>>(),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn a_password_that_is_a_common_word_is_not_looked_for_alone() {
        for value in [
            "mysql://root:guest@db.corp/x",
            "postgres://app:Postgres@db.corp/x",
            "amqp://rabbitmq:rabbitmq@localhost",
            "https://me:example@example.com",
            "https://me:@example.com",
        ] {
            assert_eq!(of_urls(value).len(), 1, "{value}");
        }
    }
}
