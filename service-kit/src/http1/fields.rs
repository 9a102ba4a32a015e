//! Fields that are about a connection, not about the message.

use http::{HeaderMap, HeaderName, header};

/// The fields of a message that do not end with its connection (RFC 9110, section 7.6.1), nor say where the body ends. Asks only once whether there is a
/// `Connection` that may name some.
pub(super) struct OwnFields<'a>(Option<&'a HeaderMap>);

impl<'a> OwnFields<'a> {
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        Self(headers.contains_key(header::CONNECTION).then_some(headers))
    }

    pub(super) fn has(&self, name: &HeaderName) -> bool {
        !is_always_hop_by_hop(name) && !self.0.is_some_and(|headers| is_named(name, headers))
    }
}

/// Whether a field ends with its connection, or says where the body ends, whatever `Connection` names.
pub(super) fn is_always_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "content-length"
            | "transfer-encoding"
            | "te"
            | "trailer"
            | "upgrade"
            | "keep-alive"
            | "proxy-connection"
    )
}

/// Removes the fields that end with a connection, and those that say where the body ends: an intermediary writes its own of these, or none.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let own = OwnFields::of(headers);
    let names: Vec<_> = headers.keys().filter(|name| !own.has(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Whether `Connection` names it.
fn is_named(name: &HeaderName, headers: &HeaderMap) -> bool {
    headers.get_all(header::CONNECTION).iter().any(|options| {
        let mut options = options.as_bytes().split(|byte| *byte == b',');
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn fields_of_a_connection_and_those_that_connection_names_are_removed() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Own"),
            ("connection", "x-other"),
            ("x-own", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("content-length", "1"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("upgrade", "websocket"),
            ("proxy-connection", "close"),
            ("x-kept", "1"),
            ("x-kept", "2"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        let kept: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value)).collect();
        assert_eq!(
            kept,
            [
                ("x-kept", &HeaderValue::from_static("1")),
                ("x-kept", &HeaderValue::from_static("2"))
            ]
        );
    }
}
