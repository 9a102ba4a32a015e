//! Seals with keys that are derived from the one in the key file. Owner and version are additional data: a value that was moved to another
//! row, or whose version was edited, does not open.

use aws_lc_rs::{hkdf, hmac};
use service_kit::keys::{Ring, Sealing};
use zeroize::Zeroizing;

use crate::domain::ports::Version;

type Key = Zeroizing<[u8; 32]>;

/// The keys derived from the one in the file.
#[derive(Debug)]
pub(super) struct Seal {
    records: Sealing,
    /// Opens single values, as earlier versions sealed them.
    pub(super) values: Sealing,
    check: [u8; 32],
}

impl Seal {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let ring = Ring::from(*key);
        let sealing = |purpose: &'static [u8]| Sealing::derived(&ring, |key| derive(key, purpose));
        Self {
            records: sealing(b"records"),
            values: sealing(b"values"),
            check: check(&derive(key, b"digests")),
        }
    }

    /// Identifies the key. The database holds it, so that another key is noticed.
    pub(super) fn check(&self) -> &[u8] {
        &self.check
    }

    /// Seals the encoding of a value.
    pub(super) fn seal(&self, owner: &str, version: Version, encoded: &[u8]) -> Vec<u8> {
        self.records.seal(&place(owner, version), encoded)
    }

    /// Returns the encoding; `None` where it was not sealed with this key for this owner and version.
    pub(super) fn open(&self, owner: &str, version: Version, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        Some(self.records.open(&place(owner, version), sealed)?.1)
    }
}

fn place(owner: &str, version: Version) -> Vec<u8> {
    [&version.0.to_be_bytes(), owner.as_bytes()].concat()
}

fn check(key: &Key) -> [u8; 32] {
    const TEXT: &[u8] = b"key check";
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()));
    context.update(&(TEXT.len() as u64).to_be_bytes());
    context.update(TEXT);
    let mut check = [0; 32];
    check.copy_from_slice(context.sign().as_ref());
    check
}

fn derive(key: &[u8; 32], purpose: &[u8]) -> Key {
    let mut derived = Key::default();
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"chandlery credential store 1")
        .extract(key)
        .expand(&[purpose], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(derived.as_mut_slice()))
        .expect("32 bytes are well below what HKDF gives");
    derived
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_in_its_place_and_with_its_key() {
        let seal = Seal::new(&[1; 32]);
        let sealed = seal.seal("installation:a", Version(3), b"canary");
        let open = |seal: &Seal, owner: &str, version: i64| {
            let opened = seal.open(owner, Version(version), &sealed);
            opened.map(|plain| plain.to_vec())
        };
        assert_eq!(open(&seal, "installation:a", 3).as_deref(), Some(&b"canary"[..]));
        for (owner, version) in [("installation:b", 3), ("installation:a", 4), ("entry:a", 3)] {
            assert_eq!(open(&seal, owner, version), None);
        }
        let other = Seal::new(&[2; 32]);
        assert_eq!(open(&other, "installation:a", 3), None);
        assert_ne!(seal.check(), other.check());
        assert!(
            seal.values
                .open(&place("installation:a", Version(3)), &sealed)
                .is_none()
        );
    }
}
