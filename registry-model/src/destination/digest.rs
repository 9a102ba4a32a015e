//! The canonical encoding, and digests of it. They are kept with secrets: a change of it would ask every owner again.

use sha2::{Digest as _, Sha256};

use super::parts::Part;

/// Begins what secrets of a self-hosted server are bound to. No scheme of an address.
pub(super) const CODE: &str = "code:";

/// A digest of length-prefixed parts, so that no two lists of parts give the same bytes.
pub(super) struct Digest(Sha256);

impl Digest {
    /// `domain` says what is digested, and in which version of the encoding.
    pub(super) fn new(domain: &str) -> Self {
        let mut digest = Self(Sha256::new());
        digest.text(domain);
        digest
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text);
    }

    pub(super) fn hex(self) -> String {
        hex::encode(self.0.finalize())
    }
}

/// What secrets of a self-hosted server are bound to.
pub(super) fn of_code(parts: &[Part<'_>]) -> String {
    let mut digest = Digest::new("chandlery destination: code, version 1");
    digest.number(parts.len() as u64);
    for part in parts {
        digest.number(u64::from(part.kind.unsigned_abs()));
        digest.text(&part.name);
        digest.text(&part.bound);
    }
    format!("{CODE}v1:{}", digest.hex())
}

/// SHA-256 of a text, in hex.
pub(super) fn of_text(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}
