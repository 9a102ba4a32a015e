//! Seals what browsers keep for us: they can neither read nor change it, nor use it for another purpose.

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use serde::{Serialize, de::DeserializeOwned};
use service_kit::keys::{Ring, Sealing};
use zeroize::Zeroizing;

/// Seals and opens. All replicas share the keys.
pub(crate) struct Sealer {
    sealing: Sealing,
    request_ids: hmac::Key,
}

impl Sealer {
    /// From keys that have other uses too: those here are kept apart from them.
    pub(crate) fn new(keys: impl Into<Ring>) -> Self {
        let ring = keys.into();
        let current = ring.keys().next().expect("a ring has a key");
        Self {
            sealing: Sealing::derived(&ring, |key| derive(key, b"chandlery pages: seal")),
            request_ids: hmac::Key::new(hmac::HMAC_SHA256, &*derive(current, b"chandlery pages: request ids")),
        }
    }

    /// Seals a value for one purpose.
    pub(crate) fn seal(&self, purpose: &str, value: &impl Serialize) -> String {
        let value = Zeroizing::new(serde_json::to_vec(value).expect("what is sealed is plain data"));
        BASE64URL_NOPAD.encode(&self.sealing.seal(purpose.as_bytes(), &value))
    }

    /// Opens what was sealed for this purpose.
    pub(crate) fn open<T: DeserializeOwned>(&self, purpose: &str, token: &str) -> Option<T> {
        let token = BASE64URL_NOPAD.decode(token.as_bytes()).ok()?;
        let (_, plain) = self.sealing.open(purpose.as_bytes(), &token)?;
        serde_json::from_slice(&plain).ok()
    }

    /// A UUID that is the same for the same parts: a form sent twice makes one request, a changed one another.
    pub(crate) fn request_id<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> String {
        let mut mac = hmac::Context::with_key(&self.request_ids);
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        let tag = mac.sign();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&tag.as_ref()[..16]);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}

fn derive(key: &[u8; 32], purpose: &[u8]) -> Zeroizing<[u8; 32]> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), purpose);
    let mut derived = Zeroizing::new([0; 32]);
    derived.copy_from_slice(tag.as_ref());
    derived
}

/// 32 random bytes, for states, nonces and session ids.
pub(crate) fn random() -> String {
    BASE64URL_NOPAD.encode(&service_kit::random::bytes::<32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_its_own_for_the_same_purpose() {
        let sealer = Sealer::new([1; 32]);
        let token = sealer.seal("session", &"secret");
        assert!(!token.contains("secret"));
        assert_eq!(sealer.open::<String>("session", &token).as_deref(), Some("secret"));
        let mut changed = token.clone().into_bytes();
        changed[20] = if changed[20] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        for (purpose, token) in [
            ("form", token.as_str()),
            ("session", &changed),
            ("session", ""),
            ("session", "ü"),
            ("session", &token[..30]),
        ] {
            assert_eq!(sealer.open::<String>(purpose, token), None);
        }
        assert_eq!(Sealer::new([2; 32]).open::<String>("session", &token), None);
    }

    #[test]
    fn makes_the_same_request_id_for_the_same_request() {
        let sealer = Sealer::new([1; 32]);
        assert_eq!(sealer.request_id(["a", "bc"]), sealer.request_id(["a", "bc"]));
        assert_ne!(sealer.request_id(["a", "bc"]), sealer.request_id(["ab", "c"]));
        assert!(uuid::Uuid::parse_str(&sealer.request_id([])).is_ok());
    }
}
