//! Where an authorization may be sent to: redirect URIs of clients.

use url::{Host, Url};

/// The longest redirect URI: a browser's cookie holds it during the sign-in.
const MAX: usize = 1_000;
/// Schemes by which editors are opened.
const EDITORS: [&str; 3] = ["cursor", "vscode", "vscode-insiders"];

/// What a redirect URI must be, for the person who runs the client.
pub(super) const RULE: &str = "must be an https URL, an http URL of a loopback address (RFC 8252, section 7.3), or a cursor:// or vscode:// URL; \
     without a fragment, and at most 1,000 bytes of ASCII";

/// Whether a client may have this redirect URI.
pub(super) fn is_acceptable(uri: &str) -> bool {
    let plain = uri.len() <= MAX
        && uri
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'<' | b'>'));
    let Some(url) = Url::parse(uri).ok().filter(|_| plain) else {
        return false;
    };
    let bare = url.fragment().is_none() && !uri.contains('#') && url.username().is_empty() && url.password().is_none();
    bare && url.has_host()
        && match url.scheme() {
            "https" => true,
            "http" => is_loopback(&url),
            scheme => EDITORS.contains(&scheme),
        }
}

/// Whether the URI of a request is one that the client has: the same text. Where it is http to a loopback address, whatever the port (RFC
/// 8252, section 7.3): a native application takes one that is free.
pub(super) fn matches(known: &str, asked: &str) -> bool {
    if known == asked {
        return true;
    }
    let without_port = |uri: &str| {
        let mut url = Url::parse(uri)
            .ok()
            .filter(|url| url.scheme() == "http" && is_loopback(url))?;
        url.set_port(None).ok()?;
        Some(url)
    };
    is_acceptable(asked) && without_port(known).is_some_and(|known| without_port(asked) == Some(known))
}

/// Who gets the authorization, for the person who is asked.
pub(super) fn destination(uri: &str) -> String {
    match Url::parse(uri) {
        Ok(url) if url.scheme() == "http" => "a program on this computer".to_owned(),
        Ok(url) if url.scheme() == "https" => url.host_str().unwrap_or_default().to_owned(),
        Ok(url) => format!("the program on this computer that opens {}:// links", url.scheme()),
        Err(_) => String::new(),
    }
}

/// Whether it leads to a program that listens on the computer of the person who is asked. The scheme of an editor does not: it hands the rest of
/// the URI to whichever of the editor's handlers it names.
pub(super) fn is_loopback_http(uri: &str) -> bool {
    Url::parse(uri).is_ok_and(|url| url.scheme() == "http" && is_loopback(&url))
}

/// The redirect URI with these parameters.
pub(super) fn with(uri: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    let separator = if uri.contains('?') { '&' } else { '?' };
    format!("{uri}{separator}{}", query.finish())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_https_loopback_and_editors() {
        for good in [
            "https://client.example/callback?a=b",
            "http://127.0.0.1/callback",
            "http://127.0.0.1:33418/",
            "http://[::1]:1/x",
            "http://localhost:9/callback",
            "cursor://anysphere.cursor-mcp/oauth/callback",
            "vscode://vscode.github-authentication/did-authenticate",
        ] {
            assert!(is_acceptable(good), "{good}");
        }
        let long = format!("https://client.example/{}", "a".repeat(1_000));
        for bad in [
            "",
            "callback",
            "http://client.example/callback",
            "http://127.0.0.1.client.example/",
            "http://localhost.client.example/",
            "https://client.example/#x",
            "https://client.example/#",
            "https://user@client.example/",
            "https://",
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "vscode:callback",
            "myapp://callback",
            "https://client.example/\r\nx: y",
            "https://client.example/ü",
            &long,
        ] {
            assert!(!is_acceptable(bad), "{bad}");
        }
    }

    #[test]
    fn matches_the_same_text_and_any_loopback_port() {
        for (known, asked) in [
            ("https://a.example/cb", "https://a.example/cb"),
            ("http://127.0.0.1/cb", "http://127.0.0.1:5000/cb"),
            ("http://127.0.0.1:1/cb", "http://127.0.0.1:2/cb"),
            ("http://localhost:1", "http://localhost:2"),
            ("http://[::1]/", "http://[::1]:4/"),
        ] {
            assert!(matches(known, asked), "{known} {asked}");
        }
        for (known, asked) in [
            ("https://a.example/cb", "https://a.example/cb/"),
            ("https://a.example/cb", "https://a.example:8443/cb"),
            ("https://a.example/cb", "https://a.example/cb?x"),
            ("http://127.0.0.1/cb", "http://127.0.0.1:5000/other"),
            ("http://127.0.0.1/cb", "http://127.0.0.1:5000/cb?x"),
            ("http://127.0.0.1/cb", "http://localhost:5000/cb"),
            ("http://127.0.0.1/cb", "https://127.0.0.1:5000/cb"),
            ("http://127.0.0.1/cb", "http://user@127.0.0.1/cb"),
            ("http://127.0.0.1/cb", "http://127.0.0.1:5000/cb#x"),
            ("cursor://a/cb", "cursor://b/cb"),
        ] {
            assert!(!matches(known, asked), "{known} {asked}");
        }
    }

    #[test]
    fn adds_parameters_to_those_that_are_there() {
        assert_eq!(
            with("https://a.example/cb", &[("code", "a b")]),
            "https://a.example/cb?code=a+b"
        );
        assert_eq!(
            with("https://a.example/cb?x=1", &[("code", "c")]),
            "https://a.example/cb?x=1&code=c"
        );
    }
}
