//! Rules for HTTP headers: which names and values are valid, and which names only the gateway may set.

/// Headers that the gateway or its HTTP library sets. In lower case, sorted.
const MANAGED: [&str; 19] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "last-event-id",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Prefixes of such headers. In lower case.
const MANAGED_PREFIXES: [&str; 7] = [
    "chandlery-",
    "proxy-",
    "mcp-session-id",
    "mcp-protocol-version",
    "mcp-method",
    "mcp-name",
    "mcp-param-",
];

/// Prefix of the headers that proxies set, such as `X-Forwarded-For`.
const FORWARDED_PREFIX: &str = "x-forwarded-";

/// The longest header name that is accepted, in bytes.
pub const MAX_NAME: usize = 128;

/// The longest header value that is accepted, in bytes.
pub const MAX_VALUE: usize = 8 << 10;

/// Whether this is a field name (a token, RFC 9110, section 5.1) of acceptable length. A token contains neither CR, LF
/// nor space.
pub fn is_field_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(is_token_byte)
}

/// Whether a header may have this value: visible characters, with spaces and tabs between them (RFC 9110, section 5.5),
/// so neither CR, LF nor NUL. Bytes above 127 are rejected, because receivers interpret them differently.
pub fn is_field_value(value: &str) -> bool {
    value.len() <= MAX_VALUE
        && value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
        && value.trim_matches([' ', '\t']) == value
}

/// Whether only the gateway may set this header: no entry, install field or passthrough may. For `Authorization`, see
/// [`is_authorization`].
pub fn is_managed(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    MANAGED.binary_search(&name.as_str()).is_ok()
        || name.starts_with(FORWARDED_PREFIX)
        || MANAGED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether this is `Authorization`, which only the primary credential may set; an additional header, an install field
/// or passthrough may not.
pub fn is_authorization(name: &str) -> bool {
    name.eq_ignore_ascii_case("authorization")
}

/// Whether a client's header of this name may be forwarded to upstreams.
pub fn may_pass_through(name: &str) -> bool {
    is_field_name(name) && !is_managed(name) && !is_authorization(name)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managed_headers_are_sorted() {
        assert!(MANAGED.is_sorted());
    }

    #[test]
    fn knows_managed_headers_in_any_case() {
        for name in [
            "Host",
            "content-LENGTH",
            "Content-Type",
            "Transfer-Encoding",
            "Connection",
            "Keep-Alive",
            "TE",
            "Trailer",
            "Upgrade",
            "Proxy-Authorization",
            "Proxy-Connection",
            "Accept",
            "Accept-Encoding",
            "Cookie",
            "Mcp-Session-Id",
            "MCP-Protocol-Version",
            "Mcp-Method",
            "Mcp-Name",
            "Mcp-Param-Region",
            "Last-Event-ID",
            "Forwarded",
            "X-Forwarded-For",
            "x-forwarded-host",
            "Chandlery-Caller",
        ] {
            assert!(is_managed(name), "{name}");
            assert!(!may_pass_through(name), "{name}");
        }
        for name in [
            "x-api-key",
            "X-Tenant",
            "Accept-Language",
            "traceparent",
            "X-Mcp",
            "Authorization",
            "Hostname",
        ] {
            assert!(!is_managed(name), "{name}");
        }
        assert!(is_authorization("AUTHORIZATION"));
        assert!(!may_pass_through("authorization"));
        assert!(may_pass_through("x-tenant"));
    }

    #[test]
    fn names_are_tokens() {
        for name in ["x-api-key", "X_Y", "a", "x!#$%&'*+.^`|~"] {
            assert!(is_field_name(name), "{name}");
        }
        let long = "x".repeat(MAX_NAME + 1);
        for name in ["", "a b", "a:b", "a\r\nb", "a\n", "ä", "a\0", "(a)", long.as_str()] {
            assert!(!is_field_name(name), "{name:?}");
        }
    }

    #[test]
    fn values_contain_no_line_breaks() {
        for value in ["", "a", "a b\tc", "~!"] {
            assert!(is_field_value(value), "{value:?}");
        }
        for value in ["a\r\nx: y", "a\n", "a\0", "ä", " a", "a ", "\u{7f}"] {
            assert!(!is_field_value(value), "{value:?}");
        }
    }
}
