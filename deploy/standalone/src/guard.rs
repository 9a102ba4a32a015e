//! Which requests the HTTP listener answers at all, whatever they are for: those that name us as their host, and come from no page of
//! somebody else. A name that somebody makes stand for our address (DNS rebinding) opens nothing, on no path.

use axum::{
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use service_kit::Hosts;

use crate::health;

/// What is answered to a request that is not; `None`: it is to be served.
pub(crate) fn refusal(hosts: &Hosts, uri: &Uri, headers: &HeaderMap) -> Option<Response> {
    // Kubernetes' probes, for example, come to the address of a pod.
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
    fn answers_under_its_own_names_on_every_path() {
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
        // Not known by its address, except for probes.
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
