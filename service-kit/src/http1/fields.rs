//! Fields that are about a connection, not about the message.

use http::{HeaderMap, HeaderName, header};

/// Whether a field ends with its connection (RFC 9110, section 7.6.1), or says where the body ends: an intermediary writes its own, or none.
pub fn is_hop_by_hop(name: &HeaderName, headers: &HeaderMap) -> bool {
    is_always_hop_by_hop(name) || is_named(name, headers)
}

/// The fields of a message that do not end with its connection. Asks only once whether there is a `Connection` that may name some.
pub(super) struct OwnFields<'a>(Option<&'a HeaderMap>);

impl<'a> OwnFields<'a> {
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        Self(headers.contains_key(header::CONNECTION).then_some(headers))
    }

    pub(super) fn has(&self, name: &HeaderName) -> bool {
        !is_always_hop_by_hop(name) && !self.0.is_some_and(|headers| is_named(name, headers))
    }
}

fn is_always_hop_by_hop(name: &HeaderName) -> bool {
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

/// Whether `Connection` names it.
fn is_named(name: &HeaderName, headers: &HeaderMap) -> bool {
    headers.get_all(header::CONNECTION).iter().any(|options| {
        let mut options = options.as_bytes().split(|byte| *byte == b',');
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
    })
}
