//! Determines the URL under which people and clients reach the HTTP address.

use std::net::SocketAddr;

use url::Url;

use crate::dev_issuer::names_this_machine;

/// Returns `given`, or the URL of the address itself if it is loopback. For any other address `given` is required: the
/// name by which other machines reach it is unknown, and requests to names other than that of the public URL are
/// refused. `tls`: the address takes TLS alone.
pub(crate) fn of(given: Option<&Url>, http: SocketAddr, tls: bool) -> Result<Url, String> {
    let scheme = if tls { "https" } else { "http" };
    let Some(url) = given else {
        if !http.ip().to_canonical().is_loopback() {
            return Err(format!(
                "--http {http}: the name by which other machines reach it is unknown, and requests to any other name are refused. Give the URL \
                 that people and clients use, with --public-url https://HOST; or listen on 127.0.0.1"
            ));
        }
        return Url::parse(&format!("{scheme}://{http}")).map_err(|error| format!("--http {http}: {error}"));
    };
    if tls && url.scheme() == "http" {
        return Err(format!(
            "--public-url {url}: the HTTP address takes TLS alone (--tls-cert), so links and cookies must be for https; give the https URL"
        ));
    }
    let plain =
        matches!(url.scheme(), "http" | "https") && url.host().is_some() && url.path() == "/" && url.query().is_none();
    if plain {
        Ok(url.clone())
    } else {
        Err(format!(
            "--public-url {url}: must be http or https with a host and no path"
        ))
    }
}

/// Whether requests to the public URL cross a network unencrypted.
pub(crate) fn is_unencrypted(public_url: &Url) -> bool {
    public_url.scheme() == "http" && !names_this_machine(public_url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(given: Option<&str>, http: &str) -> Result<String, String> {
        let given = given.map(|url| url.parse().unwrap());
        of(given.as_ref(), http.parse().unwrap(), false).map(String::from)
    }

    #[test]
    fn is_required_unless_the_address_is_loopback() {
        assert_eq!(chosen(None, "127.0.0.1:8080").unwrap(), "http://127.0.0.1:8080/");
        assert_eq!(chosen(None, "[::1]:8080").unwrap(), "http://[::1]:8080/");
        for http in ["0.0.0.0:8080", "[::]:8080", "10.0.0.1:8080"] {
            let refused = chosen(None, http).unwrap_err();
            assert!(refused.contains("--public-url") && refused.contains(http), "{refused}");
            let given = chosen(Some("https://tools.example.com"), http);
            assert_eq!(given.unwrap(), "https://tools.example.com/");
        }
        for bad in [
            "ftp://tools.example.com",
            "https://tools.example.com/x",
            "https://a.example?x",
        ] {
            assert!(chosen(Some(bad), "127.0.0.1:8080").is_err(), "{bad}");
        }
    }

    #[test]
    fn is_https_with_a_certificate() {
        let http = "127.0.0.1:8443".parse().unwrap();
        assert_eq!(String::from(of(None, http, true).unwrap()), "https://127.0.0.1:8443/");
        let given = |url: &str| of(Some(&url.parse().unwrap()), http, true);
        assert!(given("https://tools.example.com").is_ok());
        let refused = given("http://tools.example.com").unwrap_err();
        assert!(refused.contains("--tls-cert") && refused.contains("https"), "{refused}");
    }

    #[test]
    fn plain_http_to_other_machines_is_unencrypted() {
        let unencrypted = |url: &str| is_unencrypted(&url.parse().unwrap());
        assert!(unencrypted("http://tools.example.com") && unencrypted("http://10.0.0.1:8080"));
        for url in ["https://tools.example.com", "http://localhost:8080", "http://[::1]:1"] {
            assert!(!unencrypted(url), "{url}");
        }
    }
}
