//! The pins of an installation: of the package that it runs, and of those that it ran before.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::PackageRequest;
use super::pin::Pin;

/// The pins of one installation.
#[derive(Debug)]
pub(crate) struct Pins {
    /// The pin of the package that runs. Its tree is kept.
    current: PathBuf,
    /// A pin for each request of an entry revision. Requests differ by package, origin, and whether the owner must confirm new versions. If an
    /// entry names another package for a while, or does not require confirmation for a while, the versions that the owner agreed to are
    /// used again afterwards.
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

    /// The current pin, if it is for this request.
    pub(crate) fn current(&self, request: &PackageRequest) -> Option<Pin> {
        Pin::read(&self.current, request).filter(|pin| pin.confirm_new_versions == request.confirm_new_versions)
    }

    /// The folder of the current pin and its lock file.
    pub(super) fn current_folder(&self) -> &Path {
        &self.current
    }

    /// The name of the current pin's tree.
    pub(super) fn tree(&self) -> Option<String> {
        Some(Pin::any(&self.current)?.tree)
    }

    /// Makes the pin for this request the current one, if there is one.
    pub(super) fn make_current(&self, request: &PackageRequest) -> io::Result<Option<Pin>> {
        if let Some(pin) = self.current(request) {
            return Ok(Some(pin));
        }
        let kept = self.kept(request);
        if let Some(pin) = Pin::read(&kept, request) {
            pin.write(&self.current, &kept)?;
            return Ok(Some(pin));
        }
        // If only the requirement to confirm has changed, for the first time, the versions are kept.
        let Some(mut pin) = Pin::read(&self.current, request) else {
            return Ok(None);
        };
        pin.confirm_new_versions = request.confirm_new_versions;
        self.put(request, &pin, &self.current)?;
        Ok(Some(pin))
    }

    /// Stores a pin as the current one, with the lock file from the folder `from`.
    pub(super) fn put(&self, request: &PackageRequest, pin: &Pin, from: &Path) -> io::Result<()> {
        fs::create_dir_all(&self.kept)?;
        pin.write(&self.kept(request), from)?;
        pin.write(&self.current, from)
    }

    fn kept(&self, request: &PackageRequest) -> PathBuf {
        let what = format!(
            "{}:{}:{}:{}",
            request.ecosystem.name(),
            request.confirm_new_versions,
            request.origin,
            request.requested
        );
        self.kept.join(hex::encode(&Sha256::digest(what)[..16]))
    }
}
