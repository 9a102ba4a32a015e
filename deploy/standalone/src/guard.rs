//! Decides which requests the HTTP listener accepts at all: those whose host is a configured name, and which do not
//! come from a foreign page. This protects every path against DNS rebinding.

use axum::{
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use service_kit::Hosts;

use crate::health;

/// The response to a request that is refused; `None` if the request is accepted.
pub(crate) fn refusal(hosts: &Hosts, uri: &Uri, headers: &HeaderMap) -> Option<Response> {
    // Kubernetes sends probes to the address of a pod, for example.
    let probe = health::is_asked(uri) && Hosts::is_address(uri, headers);
    if !probe && !hosts.names_us(uri, headers) {
        let why = "This host name is not one of Chandlery's. Use its public URL, which the operator sets with --public-url.\n";
        return Some((StatusCode::MISDIRECTED_REQUEST, why).into_response());
    }
    if !hosts.is_origin(headers) {
        let why = "a page of this origin may not use Chandlery\n";
        return Some((StatusCode::FORBIDDEN, why).into_response());
    }
    None
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn refused(path: &str, headers: &[(&'static str, &'static str)]) -> Option<StatusCode> {
        let hosts = Hosts::new("https://tools.example.com".parse().unwrap(), &[]);
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        refusal(&hosts, &path.parse().unwrap(), &headers).map(|answer| answer.status())
    }

    #[test]
    fn accepts_only_configured_hosts_on_every_path() {
        for path in ["/livez", "/readyz"] {
            for host in [
                "tools.example.com",
                "127.0.0.1:8080",
                "10.1.2.3:8080",
                "[2001:db8::1]:8080",
            ] {
                assert_eq!(refused(path, &[("host", host)]), None, "{host}");
            }
        }
        assert_eq!(refused("/mcp/a", &[("host", "localhost")]), None);
        // The address is accepted only for probes.
        let misdirected = Some(StatusCode::MISDIRECTED_REQUEST);
        assert_eq!(refused("/mcp/a", &[("host", "10.1.2.3:8080")]), misdirected);
        for path in ["/livez", "/readyz", "/dev/jwks.json", "/none"] {
            assert_eq!(
                refused(path, &[("host", "rebound.evil.example:8080")]),
                misdirected,
                "{path}"
            );
            assert_eq!(refused(path, &[]), misdirected, "{path}");
            let foreign = [("host", "127.0.0.1:8080"), ("origin", "http://evil.example")];
            assert_eq!(refused(path, &foreign), Some(StatusCode::FORBIDDEN), "{path}");
        }
    }
}
