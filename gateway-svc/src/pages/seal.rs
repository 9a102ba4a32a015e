//! Seals what browsers keep for us: they can neither read nor change it, nor use it for another purpose.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use data_encoding::BASE64URL_NOPAD;
use rand::RngCore as _;
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

/// Seals and opens. All replicas share the key.
pub(super) struct Sealer {
    key: LessSafeKey,
    request_ids: hmac::Key,
}

impl Sealer {
    /// From a key that has other uses too: those here are kept apart from them.
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, key);
        let derived = hmac::sign(&root, b"chandlery pages: seal");
        let key = UnboundKey::new(&AES_256_GCM, derived.as_ref()).expect("AES-256 takes 32 bytes");
        let request_ids = hmac::Key::new(
            hmac::HMAC_SHA256,
            hmac::sign(&root, b"chandlery pages: request ids").as_ref(),
        );
        Self {
            key: LessSafeKey::new(key),
            request_ids,
        }
    }

    /// Seals a value for one purpose.
    pub(super) fn seal(&self, purpose: &str, value: &impl Serialize) -> String {
        let mut nonce = [0; NONCE_LEN];
        rand::rng().fill_bytes(&mut nonce);
        let mut sealed = serde_json::to_vec(value).expect("what is sealed is plain data");
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(purpose), &mut sealed)
            .expect("what is sealed is short");
        let mut token = nonce.to_vec();
        token.append(&mut sealed);
        BASE64URL_NOPAD.encode(&token)
    }

    /// Opens what was sealed for this purpose.
    pub(super) fn open<T: DeserializeOwned>(&self, purpose: &str, token: &str) -> Option<T> {
        let mut token = Zeroizing::new(BASE64URL_NOPAD.decode(token.as_bytes()).ok()?);
        let (nonce, sealed) = token.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.key.open_in_place(nonce, Aad::from(purpose), sealed).ok()?;
        serde_json::from_slice(plain).ok()
    }

    /// A UUID that is the same for the same parts: a form sent twice makes one request, a changed one another.
    pub(super) fn request_id<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> String {
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

/// 32 random bytes, for states, nonces and session ids.
pub(super) fn random() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    BASE64URL_NOPAD.encode(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_its_own_for_the_same_purpose() {
        let sealer = Sealer::new(&[1; 32]);
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
        assert_eq!(Sealer::new(&[2; 32]).open::<String>("session", &token), None);
    }

    #[test]
    fn makes_the_same_request_id_for_the_same_request() {
        let sealer = Sealer::new(&[1; 32]);
        assert_eq!(sealer.request_id(["a", "bc"]), sealer.request_id(["a", "bc"]));
        assert_ne!(sealer.request_id(["a", "bc"]), sealer.request_id(["ab", "c"]));
        assert!(uuid::Uuid::parse_str(&sealer.request_id([])).is_ok());
    }
}
