//! The versions that an installation runs, and those that it ran of other packages.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::Wanted;
use super::pin::Pin;

/// The pins of one installation.
#[derive(Debug)]
pub(crate) struct Pins {
    /// Of what runs: its tree is kept.
    current: PathBuf,
    /// One for each package that an entry revision named, apart by where it comes from and by whether new versions are for the owner to
    /// confirm. An entry that names another package for a while, or does not ask for a while, so gets back the versions that the owner agreed
    /// to.
    kept: PathBuf,
}

impl Pins {
    /// Below an installation's folder.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            current: folder.join("pin"),
            kept: folder.join("pins"),
        }
    }

    /// The current one, if it is for this.
    pub(crate) fn current(&self, wanted: &Wanted) -> Option<Pin> {
        Pin::read(&self.current, wanted).filter(|pin| pin.confirm_new_versions == wanted.confirm_new_versions)
    }

    /// Where the current one's lock file is.
    pub(super) fn current_folder(&self) -> &Path {
        &self.current
    }

    /// Name of the current one's tree.
    pub(super) fn tree(&self) -> Option<String> {
        Some(Pin::any(&self.current)?.tree)
    }

    /// Makes the one for this the current one, if there is one.
    pub(super) fn make_current(&self, wanted: &Wanted) -> io::Result<Option<Pin>> {
        if let Some(pin) = self.current(wanted) {
            return Ok(Some(pin));
        }
        let kept = self.kept(wanted);
        if let Some(pin) = Pin::read(&kept, wanted) {
            pin.write(&self.current, &kept)?;
            return Ok(Some(pin));
        }
        // The first time that the entry asks, or does not: what runs goes on.
        let Some(mut pin) = Pin::read(&self.current, wanted) else {
            return Ok(None);
        };
        pin.confirm_new_versions = wanted.confirm_new_versions;
        self.put(wanted, &pin, &self.current)?;
        Ok(Some(pin))
    }

    /// Makes one the current one, with the lock file that is in `from`.
    pub(super) fn put(&self, wanted: &Wanted, pin: &Pin, from: &Path) -> io::Result<()> {
        fs::create_dir_all(&self.kept)?;
        pin.write(&self.kept(wanted), from)?;
        pin.write(&self.current, from)
    }

    fn kept(&self, wanted: &Wanted) -> PathBuf {
        let what = format!(
            "{}:{}:{}:{}",
            wanted.ecosystem.name(),
            wanted.confirm_new_versions,
            wanted.origin,
            wanted.requested
        );
        self.kept.join(hex::encode(&Sha256::digest(what)[..16]))
    }
}
