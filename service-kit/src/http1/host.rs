//! The host that a request is for (RFC 9110, section 7.2).

use http::{HeaderMap, header};

/// Whether there is exactly one `Host`, and it is valid.
pub(super) fn has_one_host(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_host(host.as_bytes()),
        _ => false,
    }
}

/// A name or an address, and perhaps a port. Stricter than RFC 3986, which also has names with `%`, `!`, `,` and the like: what is in front of us may
/// take them for something else.
fn is_host(text: &[u8]) -> bool {
    let (valid, behind) = if let Some(address) = text.strip_prefix(b"[") {
        let end = address.iter().position(|byte| *byte == b']').unwrap_or(address.len());
        let (address, behind) = address.split_at(end);
        let valid = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
        let Some(behind) = behind.strip_prefix(b"]") else {
            return false;
        };
        (!address.is_empty() && address.iter().all(valid), behind)
    } else {
        let end = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
        let (name, behind) = text.split_at(end);
        let valid = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        (!name.is_empty() && name.iter().all(valid), behind)
    };
    valid && (behind.is_empty() || behind.strip_prefix(b":").is_some_and(is_port))
}

fn is_port(text: &[u8]) -> bool {
    (1..=5).contains(&text.len()) && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for host in [
            "a",
            "A.b-c.example",
            "my_host:8080",
            "127.0.0.1:1",
            "[::1]",
            "[::ffff:1.2.3.4]:65535",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            ":80",
            "a:",
            "a:b",
            "a:80:80",
            "a:123456",
            "a:+1",
            "a,b",
            "a b",
            "a/b",
            "a@b",
            "user:pass@b",
            "a?b",
            "a#b",
            "a%2eb",
            "a\\b",
            "[::1",
            "::1]",
            "[]",
            "[::1]b",
            "[::1]:",
            "[g]",
            "[::1%25eth0]",
            "\u{e9}",
            "http://a",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
