//! Checks `Host` and `Origin` against DNS rebinding: a foreign page in a browser must not reach a listener.

use std::net::IpAddr;

use http::{HeaderMap, Uri, header, uri::Authority};
use url::Url;

/// The host names to which a listener responds.
#[derive(Clone, Debug)]
pub struct Hosts {
    public: Url,
    /// `host` or `host:port`, in lower case.
    allowed: Vec<String>,
}

impl Hosts {
    /// Permits the host of the public URL, loopback names and `allowed`.
    pub fn new(public: Url, allowed: &[String]) -> Self {
        Self {
            public,
            allowed: allowed.iter().map(|host| host.to_ascii_lowercase()).collect(),
        }
    }

    /// Whether a request with this URI and these headers is permitted.
    pub fn permits(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        self.names_us(uri, headers) && self.is_origin(headers)
    }

    /// Whether a request names a permitted host.
    pub fn names_us(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        authority(uri, headers).is_some_and(|host| self.is_host(&host))
    }

    /// Whether a request names an IP address instead of a host name. That proves nothing about the client, but rules
    /// out a rebound name: a health probe that knows no host name may ask for public information.
    pub fn is_address(uri: &Uri, headers: &HeaderMap) -> bool {
        authority(uri, headers).is_some_and(|authority| {
            let host = authority.host().trim_matches(['[', ']']);
            host.parse::<IpAddr>().is_ok()
        })
    }

    fn is_host(&self, authority: &Authority) -> bool {
        let is_it = |known: &str| known.eq_ignore_ascii_case(authority.host());
        let is_allowed = |known: &String| is_it(known) || known.eq_ignore_ascii_case(authority.as_str());
        is_loopback(authority.host())
            || self.public.host_str().is_some_and(is_it)
            || self.allowed.iter().any(is_allowed)
    }

    /// Whether a request comes from no page, from a page of the public origin or an allowed host, or, if the public URL
    /// is a loopback one, from a page of this machine.
    pub fn is_origin(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return true;
        };
        // Browsers send `null` with a form whose page sends no referrer.
        if origin == "null" {
            return headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin");
        }
        let Some(origin) = origin.to_str().ok().and_then(|origin| Url::parse(origin).ok()) else {
            return false;
        };
        let Some(host) = origin.host_str() else { return false };
        let local = |host: Option<&str>| host.is_some_and(is_loopback);
        let with_port = origin.port().map(|port| format!("{host}:{port}"));
        origin.origin() == self.public.origin()
            || local(Some(host)) && local(self.public.host_str())
            || self
                .allowed
                .iter()
                .any(|known| known == host || Some(known) == with_port.as_ref())
    }
}

/// The host and port that a request names; `None` if there is more than that, or no host.
fn authority(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let authority = match uri.authority() {
        Some(authority) => authority.clone(),
        None => {
            let mut hosts = headers.get_all(header::HOST).iter();
            let host = Authority::try_from(hosts.next()?.as_bytes()).ok()?;
            // RFC 9112, section 3.2: an intermediary may have checked the other header.
            if hosts.next().is_some() {
                return None;
            }
            host
        }
    };
    let rest = authority.as_str().strip_prefix(authority.host())?;
    let is_plain = rest.is_empty()
        || rest
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    is_plain.then_some(authority)
}

fn is_loopback(host: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]", "::1"]
        .iter()
        .any(|name| name.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(hosts: &Hosts, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        hosts.permits(&"/mcp/a".parse().unwrap(), &headers)
    }

    #[test]
    fn permits_only_known_hosts() {
        let hosts = Hosts::new(
            "https://tools.example.com".parse().unwrap(),
            &["Internal:8080".to_owned()],
        );
        for host in [
            "tools.example.com",
            "TOOLS.example.com:443",
            "127.0.0.1:8080",
            "[::1]:1",
            "localhost",
            "internal:8080",
        ] {
            assert!(permits(&hosts, host, None), "{host}");
        }
        for host in [
            "evil.com",
            "internal",
            "internal:81",
            "127.0.0.1.evil.com",
            "x@tools.example.com",
            "[::1]tools.example.com",
            "tools.example.com:LS.e",
            "",
            "192.168.1.1",
        ] {
            assert!(!permits(&hosts, host, None), "{host}");
        }
        let mut two = HeaderMap::new();
        two.append(header::HOST, "localhost".parse().unwrap());
        two.append(header::HOST, "evil.com".parse().unwrap());
        assert!(!hosts.permits(&"/".parse().unwrap(), &two), "two hosts");
        assert!(
            !hosts.permits(&"/".parse().unwrap(), &HeaderMap::new()),
            "no host at all"
        );
    }

    #[test]
    fn tells_addresses_from_names() {
        let is = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            Hosts::is_address(&"/livez".parse().unwrap(), &headers)
        };
        assert!(is("10.1.2.3:8080") && is("10.1.2.3") && is("[2001:db8::1]:80"));
        assert!(!is("10.1.2.3.evil.com") && !is("evil.com") && !is("x@10.1.2.3") && !is(""));
        assert!(!Hosts::is_address(&"/".parse().unwrap(), &HeaderMap::new()));
    }

    #[test]
    fn refuses_foreign_origins() {
        let public = Hosts::new("https://tools.example.com".parse().unwrap(), &[]);
        assert!(permits(&public, "tools.example.com", Some("https://tools.example.com")));
        for origin in [
            "http://tools.example.com",
            "https://evil.com",
            "null",
            "http://localhost:3000",
            "ü",
        ] {
            assert!(!permits(&public, "tools.example.com", Some(origin)), "{origin}");
        }
        let local = Hosts::new("http://127.0.0.1:8080".parse().unwrap(), &[]);
        assert!(permits(&local, "127.0.0.1:8080", Some("http://localhost:6274")));
        assert!(!permits(&local, "127.0.0.1:8080", Some("http://evil.com")));
    }

    /// A request that is permitted names a permitted host as a browser would understand it.
    #[test]
    fn permits_no_other_host() {
        let words = [
            "tools.example.com",
            "localhost",
            "127.0.0.1",
            "[::1]",
            "evil.example",
            "@",
            ":",
            "8080",
            ".",
            "http://",
            "https://",
            "/",
            "#",
            "?",
            "\\",
            "%2e",
            "TOOLS",
            " ",
            "\t",
            "null",
        ];
        let hosts = Hosts::new(Url::parse("https://tools.example.com/x").unwrap(), &[]);
        bolero::check!(name = "hosts")
            .with_iterations(crate::fuzz::ITERATIONS)
            .for_each(|bytes: &[u8]| {
                for text in [
                    crate::fuzz::weave(bytes, &words),
                    String::from_utf8_lossy(bytes).into_owned(),
                ] {
                    let Ok(value) = http::HeaderValue::try_from(&text) else {
                        continue;
                    };
                    let ours = ["tools.example.com", "localhost", "127.0.0.1", "[::1]"];
                    let headers = HeaderMap::from_iter([(header::HOST, value.clone())]);
                    if hosts.names_us(&Uri::from_static("/"), &headers) {
                        let url =
                            Url::parse(&format!("http://{text}/")).unwrap_or_else(|error| panic!("{text:?}: {error}"));
                        assert!(
                            url.username().is_empty() && ours.contains(&url.host_str().unwrap_or_default()),
                            "{text:?}"
                        );
                    }
                    let headers = HeaderMap::from_iter([(header::ORIGIN, value)]);
                    if hosts.is_origin(&headers) {
                        let url = Url::parse(&text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
                        assert_eq!(url.host_str(), Some("tools.example.com"), "{text:?}");
                    }
                }
            });
    }
}
