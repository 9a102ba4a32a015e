//! Security headers of every response of the HTTP listener.

use axum::{
    http::{HeaderValue, header},
    response::Response,
};

/// Two years, as preload lists require. `includeSubDomains` is not set, because the operator's other hosts are not
/// Chandlery's to decide about.
const ALWAYS_HTTPS: HeaderValue = HeaderValue::from_static("max-age=63072000");
const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");

/// Keeps browsers from guessing content types, and from using plain HTTP after HTTPS (RFC 6797).
pub(crate) fn harden(response: &mut Response, https: bool) {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFFING);
    if https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, ALWAYS_HTTPS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requires_https_only_on_an_https_site() {
        let (mut plain, mut https) = (Response::default(), Response::default());
        harden(&mut plain, false);
        assert_eq!(plain.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert!(!plain.headers().contains_key(header::STRICT_TRANSPORT_SECURITY));
        harden(&mut https, true);
        assert_eq!(https.headers()[header::STRICT_TRANSPORT_SECURITY], "max-age=63072000");
    }
}
