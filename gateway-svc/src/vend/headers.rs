//! Puts headers together. Later ones replace earlier ones: passthrough, then the entry's own, then the credential.

use contracts::credential::VendedHeader;
use http::{HeaderMap, HeaderName, HeaderValue};
use registry_model::headers::{is_authorization, is_managed, may_pass_through};
use zeroize::Zeroize as _;

use crate::domain::{Consumer, Running};

/// Additional headers and install fields that are no secrets.
pub(super) fn fixed(running: &Running) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(running.revision.headers.len() + 1);
    for (name, value) in running.fixed_headers() {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            // The registry refuses such names; an older one may not have.
            (Ok(name), Ok(value)) if !is_managed(name.as_str()) && !is_authorization(name.as_str()) => {
                headers.insert(name, value);
            }
            _ => unusable(running, name),
        }
    }
    headers
}

/// What was vended replaces what the entry says of the same name.
pub(super) fn add_secret(headers: &mut HeaderMap, vended: Vec<VendedHeader>, running: &Running) {
    for mut header in vended {
        let value = HeaderValue::try_from(&header.value);
        header.value.zeroize();
        match (HeaderName::try_from(&header.name), value) {
            (Ok(name), Ok(mut value)) if !is_managed(name.as_str()) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            _ => unusable(running, &header.name),
        }
    }
}

fn unusable(running: &Running, name: &str) {
    tracing::warn!(installation.uid = %running.installation.uid, header.name = name.escape_debug().to_string(), "a header cannot be sent and is left out");
}

/// Adds to `out` those of the client's headers that the gateway or agent lets through. One of `ours`, or one that the gateway manages itself,
/// is never replaced.
pub(crate) fn passthrough(client: &HeaderMap, consumer: &Consumer, ours: &HeaderMap, out: &mut HeaderMap) {
    for name in &consumer.passthrough_headers {
        let Ok(name) = HeaderName::try_from(name) else { continue };
        if !may_pass_through(name.as_str()) || ours.contains_key(&name) || out.contains_key(&name) {
            continue;
        }
        for value in client.get_all(&name) {
            out.append(name.clone(), value.clone());
        }
    }
}
