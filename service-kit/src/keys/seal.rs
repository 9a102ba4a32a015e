//! AES-256-GCM encryption under the keys of a ring, for values that other systems store for Chandlery.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rand::RngCore as _;
use zeroize::Zeroizing;

use super::Ring;

/// Encrypts with the current key, and decrypts with any key of the ring.
pub struct Sealing {
    keys: Vec<LessSafeKey>,
}

impl Sealing {
    /// Uses the keys of `ring` as they are.
    pub fn new(ring: &Ring) -> Self {
        Self::derived(ring, |key| Zeroizing::new(*key))
    }

    /// Uses keys derived from those of `ring`, so that one ring can serve several purposes.
    pub fn derived(ring: &Ring, derive: impl Fn(&[u8; 32]) -> Zeroizing<[u8; 32]>) -> Self {
        let cipher = |key: &[u8; 32]| {
            let key = UnboundKey::new(&AES_256_GCM, derive(key).as_slice()).expect("AES-256 takes 32 bytes");
            LessSafeKey::new(key)
        };
        Self {
            keys: ring.keys().map(cipher).collect(),
        }
    }

    /// Returns a random nonce followed by the encrypted `plain`. Only the same `context` decrypts it.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        rand::rng().fill_bytes(&mut nonce);
        // The exact capacity: a buffer that grows leaves copies of `plain` behind.
        let mut whole = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        whole.extend_from_slice(&nonce);
        whole.extend_from_slice(plain);
        let tag = self.keys[0]
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context),
                &mut whole[NONCE_LEN..],
            )
            .expect("what is sealed is far shorter than what the cipher takes");
        whole.extend_from_slice(tag.as_ref());
        whole
    }

    /// Returns the nonce and the decrypted value; `None` if no key of the ring sealed it with this context.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Option<([u8; NONCE_LEN], Zeroizing<Vec<u8>>)> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
        self.keys.iter().find_map(|key| {
            // Decryption overwrites the text.
            let mut text = Zeroizing::new(text.to_vec());
            let opened = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context), &mut text);
            let length = opened.ok()?.len();
            text.truncate(length);
            Some((*nonce, text))
        })
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_previous_key_opens_until_the_next_rotation() {
        let first = Ring::from([1; 32]);
        let sealed = Sealing::new(&first).seal(b"context", b"value");
        let open = |ring: &Ring, context: &[u8]| {
            Sealing::new(ring).open(context, &sealed).map(|(nonce, plain)| {
                assert_eq!(nonce, sealed[..NONCE_LEN]);
                plain.to_vec()
            })
        };
        let second = first.rotated().unwrap();
        assert_eq!(open(&first, b"context").as_deref(), Some(&b"value"[..]));
        assert_eq!(open(&second, b"context").as_deref(), Some(&b"value"[..]));
        assert_eq!(open(&second, b"another"), None);
        assert_eq!(open(&second.current(), b"context"), None);
        assert_eq!(open(&second.rotated().unwrap(), b"context"), None);
        assert!(Sealing::new(&first).open(b"context", &sealed[..5]).is_none());
        // Derived keys do not open what the ring's own keys have sealed.
        let other = Sealing::derived(&first, |_| Zeroizing::new([9; 32]));
        assert!(other.open(b"context", &sealed).is_none());
    }
}
