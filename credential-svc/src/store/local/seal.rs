//! Sealing: AES-256-GCM with the place of a value, and where it may go, as additional data: a value that was moved to another row, or that
//! somebody has bound to another destination in the file, does not open.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    hkdf, hmac,
};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::{Zeroize as _, Zeroizing};

use super::key::Key;

const TAG: usize = 16;

/// The keys derived from the one in the file.
pub(super) struct Seal {
    values: RandomizedNonceKey,
    digests: hmac::Key,
}

/// Where a value belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// Kind and uid.
    pub(super) owner: &'a str,
    pub(super) field: &'a str,
    pub(super) generation: i64,
    /// What it is bound to. `None`: sealed by a program that kept this beside it.
    pub(super) destination: Option<&'a str>,
}

/// A sealed value.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) nonce: Vec<u8>,
    pub(super) text: Vec<u8>,
}

/// The value was not sealed with this key for this place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Foreign;

impl Seal {
    pub(super) fn new(key: &Key) -> Self {
        let values = derive(key, b"values");
        let digests = derive(key, b"digests");
        Self {
            values: RandomizedNonceKey::new(&AES_256_GCM, values.as_slice()).expect("the key has the cipher's length"),
            digests: hmac::Key::new(hmac::HMAC_SHA256, digests.as_slice()),
        }
    }

    pub(super) fn seal(&self, place: Place<'_>, value: &SecretString) -> Sealed {
        let value = value.expose_secret().as_bytes();
        // The exact capacity: a buffer that grows leaves copies behind.
        let mut text = Vec::with_capacity(value.len() + TAG);
        text.extend_from_slice(value);
        let nonce = self
            .values
            .seal_in_place_append_tag(Aad::from(place.bytes()), &mut text)
            .expect("values are far shorter than what the cipher takes");
        Sealed {
            nonce: nonce.as_ref().to_vec(),
            text,
        }
    }

    pub(super) fn open(&self, place: Place<'_>, sealed: Sealed) -> Result<SecretString, Foreign> {
        let nonce = Nonce::try_assume_unique_for_key(&sealed.nonce).map_err(|_| Foreign)?;
        let mut text = Zeroizing::new(sealed.text);
        let opened = self
            .values
            .open_in_place(nonce, Aad::from(place.bytes()), &mut text)
            .map_err(|_| Foreign)?;
        let value = std::str::from_utf8(opened).map_err(|_| Foreign)?;
        Ok(SecretString::from(value))
    }

    /// Each part with its length, so that no two lists of parts give the same bytes.
    pub(super) fn digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.digests);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }
}

impl<'a> Place<'a> {
    /// What an owner has agreed to. No field has this key.
    pub(super) fn of_agreement(owner: &'a str, destination: &'a str) -> Self {
        Self {
            owner,
            field: "",
            generation: 0,
            destination: Some(destination),
        }
    }

    fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in [self.owner, self.field] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        if let Some(destination) = self.destination {
            bytes.extend_from_slice(&(destination.len() as u64).to_be_bytes());
            bytes.extend_from_slice(destination.as_bytes());
        }
        bytes
    }
}

fn derive(key: &Key, purpose: &[u8]) -> Key {
    let mut derived = Key::default();
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"chandlery credential store 1")
        .extract(key.as_slice())
        .expand(&[purpose], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(derived.as_mut_slice()))
        .unwrap_or_else(|_| {
            derived.zeroize();
            unreachable!("32 bytes are well below what HKDF gives")
        });
    derived
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(owner: &'static str, field: &'static str, generation: i64) -> Place<'static> {
        Place {
            owner,
            field,
            generation,
            destination: Some("https://example.com"),
        }
    }

    #[test]
    fn opens_only_in_its_place_and_with_its_key() {
        let seal = Seal::new(&Key::new([1; 32]));
        let value = SecretString::from("canary");
        let home = place("installation:a", "token", 3);
        let again = || seal.seal(home, &value);
        assert_eq!(seal.open(home, again()).unwrap().expose_secret(), "canary");
        for elsewhere in [
            place("installation:b", "token", 3),
            place("installation:a", "other", 3),
            place("installation:a", "token", 4),
            place("installation:", "atoken", 3),
            Place {
                destination: Some("https://evil.example"),
                ..home
            },
            Place {
                destination: None,
                ..home
            },
        ] {
            assert!(seal.open(elsewhere, again()).is_err());
        }
        assert!(Seal::new(&Key::new([2; 32])).open(home, again()).is_err());
        let mut changed = again();
        changed.text[0] ^= 1;
        assert!(seal.open(home, changed).is_err());
        assert_ne!(again().nonce, again().nonce);
    }

    #[test]
    fn digests_tell_lists_apart() {
        let seal = Seal::new(&Key::new([1; 32]));
        assert_ne!(seal.digest(&[b"a", b"bc"]), seal.digest(&[b"ab", b"c"]));
        assert_eq!(seal.digest(&[b"a"]), seal.digest(&[b"a"]));
        assert_ne!(seal.digest(&[b"a"]), Seal::new(&Key::new([2; 32])).digest(&[b"a"]));
    }
}
