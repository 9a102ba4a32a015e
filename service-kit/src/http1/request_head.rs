//! The head of a request.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Method, Uri, header};

use super::fields::OwnFields;

/// Why a request cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// The path or query has characters that no URL has.
    #[error("its URL has characters that must be encoded")]
    Target,
    /// The URI is not absolute, and the fields have no `Host`.
    #[error("its URL has no host")]
    NoHost,
}

/// The head of a request with a body of `length` bytes, in origin form. Its fields are those of `headers`, which must have none
/// [of a connection](super::remove_hop_by_hop); `Host` is that of `uri` where they have none. Names and values cannot contain line ends, by their types.
pub fn request_head(method: &Method, uri: &Uri, headers: &HeaderMap, length: usize) -> Result<Bytes, Unwritable> {
    debug_assert!(
        headers.keys().all(|name| OwnFields::of(headers).has(name)),
        "{headers:?}"
    );
    let (path, query) = (uri.path(), uri.query());
    let is_plain = |text: &str| text.bytes().all(|byte| matches!(byte, 0x21..=0x7e) && byte != b'#');
    if !path.starts_with('/') || !is_plain(path) || !query.is_none_or(is_plain) {
        return Err(Unwritable::Target);
    }
    let mut head = BytesMut::with_capacity(1024);
    head.put_slice(method.as_str().as_bytes());
    head.put_slice(b" ");
    head.put_slice(path.as_bytes());
    if let Some(query) = query {
        head.put_slice(b"?");
        head.put_slice(query.as_bytes());
    }
    head.put_slice(b" HTTP/1.1\r\nhost: ");
    match headers.get(header::HOST) {
        Some(host) => head.put_slice(host.as_bytes()),
        None => put_host(&mut head, uri)?,
    }
    for (name, value) in headers {
        if name != header::HOST {
            head.put_slice(b"\r\n");
            head.put_slice(name.as_str().as_bytes());
            head.put_slice(b": ");
            head.put_slice(value.as_bytes());
        }
    }
    // RFC 9110, section 8.6: where the method lets the server expect a body, also that there is none.
    if length > 0 || matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        head.put_slice(format!("\r\ncontent-length: {length}").as_bytes());
    }
    head.put_slice(b"\r\n\r\n");
    Ok(head.freeze())
}

/// The host, and the port where it is not that of the scheme.
fn put_host(head: &mut BytesMut, uri: &Uri) -> Result<(), Unwritable> {
    let host = uri.host().filter(|host| !host.is_empty()).ok_or(Unwritable::NoHost)?;
    head.put_slice(host.as_bytes());
    let default = match uri.scheme_str() {
        Some("https") => 443,
        _ => 80,
    };
    if let Some(port) = uri.port_u16().filter(|port| *port != default) {
        head.put_slice(format!(":{port}").as_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn head(method: Method, uri: &str, fields: &[(&'static str, &'static str)], length: usize) -> String {
        let fields = fields
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append::<http::HeaderName>(name, value);
        }
        let head = request_head(&method, &uri.parse().unwrap(), &headers, length).unwrap();
        String::from_utf8(head.to_vec()).unwrap()
    }

    #[test]
    fn a_head_is_in_origin_form_and_has_a_host_and_a_length_of_its_own() {
        assert_eq!(
            head(
                Method::POST,
                "http://a.example:8080/mcp?a=b",
                &[("accept", "*/*"), ("x-more", "1"), ("x-more", "2")],
                2
            ),
            "POST /mcp?a=b HTTP/1.1\r\nhost: a.example:8080\r\naccept: */*\r\nx-more: 1\r\nx-more: 2\r\ncontent-length: 2\r\n\r\n"
        );
        assert_eq!(
            head(Method::DELETE, "https://user@a.example:443", &[], 0),
            "DELETE / HTTP/1.1\r\nhost: a.example\r\n\r\n"
        );
        assert_eq!(
            head(Method::POST, "http://[::1]:80/", &[("host", "localhost")], 0),
            "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"
        );
    }

    #[test]
    fn a_target_with_characters_that_no_url_has_is_not_written() {
        let headers = HeaderMap::new();
        let path = Uri::try_from("http://a.example/\u{e9}".as_bytes());
        if let Ok(uri) = path {
            assert_eq!(request_head(&Method::GET, &uri, &headers, 0), Err(Unwritable::Target));
        }
        let star = Uri::from_static("*");
        assert_eq!(request_head(&Method::GET, &star, &headers, 0), Err(Unwritable::Target));
        let relative = Uri::from_static("/mcp");
        assert_eq!(
            request_head(&Method::GET, &relative, &headers, 0),
            Err(Unwritable::NoHost)
        );
    }
}
