//! Fields that are about a connection, not about the message.

use http::{HeaderMap, HeaderName, header};

/// Whether a field ends with its connection (RFC 9110, section 7.6.1), or says where the body ends: an intermediary writes its own, or none.
pub fn is_hop_by_hop(name: &HeaderName, headers: &HeaderMap) -> bool {
    let always = matches!(
        name.as_str(),
        "connection"
            | "content-length"
            | "transfer-encoding"
            | "te"
            | "trailer"
            | "upgrade"
            | "keep-alive"
            | "proxy-connection"
    );
    always || is_named(name, headers)
}

/// Whether `Connection` names it.
fn is_named(name: &HeaderName, headers: &HeaderMap) -> bool {
    headers.get_all(header::CONNECTION).iter().any(|options| {
        let mut options = options.as_bytes().split(|byte| *byte == b',');
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
    })
}
