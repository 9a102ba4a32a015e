//! Media types that a client sends and accepts.

use http::{
    HeaderMap,
    header::{ACCEPT, CONTENT_TYPE},
};

pub(super) fn content_is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    kind.split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Whether a media type is taken by the client; one that names none takes all.
pub(super) fn accepts(headers: &HeaderMap, wanted: &str) -> bool {
    if !headers.contains_key(ACCEPT) {
        return true;
    }
    let named = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    named.flat_map(|value| value.split(',')).any(|range| {
        let range = range.split(';').next().unwrap_or_default().trim();
        let family = range.strip_suffix("/*").filter(|family| !family.contains('*'));
        range == "*/*"
            || range.eq_ignore_ascii_case(wanted)
            || family.is_some_and(|family| {
                wanted
                    .split('/')
                    .next()
                    .is_some_and(|kind| kind.eq_ignore_ascii_case(family))
            })
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn accept_is_read_as_http_has_it() {
        let of = |value: &'static str, wanted| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(value));
            accepts(&headers, wanted)
        };
        assert!(of("application/json, text/event-stream", "text/event-stream"));
        assert!(of("application/json;q=0.9, */*", "text/event-stream"));
        assert!(of("Application/*", "application/json"));
        assert!(!of("application/json", "text/event-stream"));
        assert!(!of("text/html", "application/json"));
        assert!(accepts(&HeaderMap::new(), "application/json"));
    }
}
