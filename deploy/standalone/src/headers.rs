//! Headers of every answer of the HTTP listener.

use axum::{
    http::{HeaderValue, header},
    response::Response,
};

/// Two years, as lists of such hosts ask for. Other hosts of the domain are not ours to decide about.
const ALWAYS_HTTPS: HeaderValue = HeaderValue::from_static("max-age=63072000");
const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");

/// Browsers take an answer for what it says it is; and where they come by https, come by nothing else (RFC 6797).
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
    fn asks_for_https_where_that_is_what_there_is() {
        let (mut plain, mut https) = (Response::default(), Response::default());
        harden(&mut plain, false);
        assert_eq!(plain.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert!(!plain.headers().contains_key(header::STRICT_TRANSPORT_SECURITY));
        harden(&mut https, true);
        assert_eq!(https.headers()[header::STRICT_TRANSPORT_SECURITY], "max-age=63072000");
    }
}
