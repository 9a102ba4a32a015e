//! What the heads of requests and answers have in common.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Malformed, framing::Said};

/// The most bytes of a head.
pub(super) const MAX_HEAD: usize = 32 << 10;
/// The most fields of a head, or a trailer section.
pub(super) const MAX_FIELDS: usize = 64;

/// The fields of `head`, where they have been found, and what they say of framing and connection. Values are slices of `head`.
pub(super) fn fields(head: &Bytes, found: &[httparse::Header<'_>]) -> Result<(HeaderMap, Said), Malformed> {
    let (mut headers, mut said) = (HeaderMap::with_capacity(found.len()), Said::default());
    for field in found {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Head)?;
        said.hear(&name, field.value)?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value));
        headers.append(name, value.map_err(|_| Malformed::Head)?);
    }
    Ok((headers, said))
}

/// The version whose minor number was parsed.
pub(super) const fn version(minor: Option<u8>) -> http::Version {
    match minor {
        Some(0) => http::Version::HTTP_10,
        _ => http::Version::HTTP_11,
    }
}
