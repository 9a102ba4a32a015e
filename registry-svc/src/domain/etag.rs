//! Etags (AIP-154): change with every write by people.

use sha2::{Digest as _, Sha256};

use super::Error;

/// The etag of what this revision wrote.
pub(crate) fn of(uid: &str, revision: i64) -> String {
    let mut hash = Sha256::new();
    hash.update(uid);
    hash.update(revision.to_be_bytes());
    hex::encode(&hash.finalize()[..8])
}

/// Fails with [`Error::EtagMismatch`] if the resource has changed since `given` was read; an empty etag is not checked.
pub(crate) fn check(given: &str, current: &str, name: &str) -> Result<(), Error> {
    if given.is_empty() || given == current {
        Ok(())
    } else {
        Err(Error::EtagMismatch(name.to_owned()))
    }
}
