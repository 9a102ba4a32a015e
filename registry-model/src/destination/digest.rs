//! The canonical encoding of destinations, and its digests. These are stored with secrets, so a change of the encoding
//! would require every owner to confirm again.

use sha2::{Digest as _, Sha256};

use super::parts::Part;

/// The prefix of a binding to a self-hosted server. It is not the scheme of any URL.
pub(super) const CODE: &str = "code:";

/// A digest of length-prefixed parts, so that two different lists of parts never have the same encoding.
pub(super) struct Digest(Sha256);

impl Digest {
    /// `domain` names what is digested and the version of the encoding.
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

/// The binding of a self-hosted server's secrets.
pub(super) fn of_code(parts: &[Part<'_>]) -> String {
    format!("{CODE}v1:{}", of_parts("chandlery destination: code, version 1", parts))
}

/// The digest of parts, in hex; `domain` as in [`Digest::new`].
pub(super) fn of_parts(domain: &str, parts: &[Part<'_>]) -> String {
    let mut digest = Digest::new(domain);
    digest.number(parts.len() as u64);
    for part in parts {
        digest.number(u64::from(part.kind.unsigned_abs()));
        digest.text(&part.name);
        digest.text(&part.bound);
    }
    digest.hex()
}

/// The SHA-256 of a text, in hex.
pub(super) fn of_text(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}
