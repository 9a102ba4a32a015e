//! A pin: the versions of a package that an installation runs.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{PackageRequest, made::read_made, npm, pypi};
use crate::domain::package::{Ecosystem, Package};

const NAME: &str = "pin.json";

/// The versions of an installation's package, stored in a folder with the lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pin {
    pub(crate) package: Package,
    /// The name of its tree.
    pub(crate) tree: String,
    /// [`PackageRequest::confirm_new_versions`].
    #[serde(default)]
    pub(super) confirm_new_versions: bool,
    /// [`PackageRequest::origin`]. `None` in a pin of an older version of Chandlery: its versions are kept, its tree is created again.
    #[serde(default)]
    pub(super) origin: Option<String>,
    /// The interpreter of a virtual environment, determined before any package was installed into it.
    #[serde(default)]
    pub(crate) interpreter: Option<PathBuf>,
}

pub(super) fn lock_files(ecosystem: Ecosystem) -> &'static [&'static str] {
    match ecosystem {
        Ecosystem::Npm => &npm::LOCK,
        Ecosystem::Pypi => &pypi::LOCK,
    }
}

impl Pin {
    /// The pin for the lock file in a folder. `owner` is given if the tree is for one installation only.
    pub(super) fn of(request: &PackageRequest, folder: &Path, owner: Option<&str>) -> io::Result<Self> {
        let mut digest = Sha256::new();
        for name in lock_files(request.ecosystem) {
            let text = read_made(folder, name)?;
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text);
        }
        let locked = hex::encode(digest.clone().finalize());
        let interpreter = match request.ecosystem {
            Ecosystem::Npm => None,
            Ecosystem::Pypi => Some(pypi::interpreter(folder)?),
        };
        // A tree is not shared with installations that name another registry or other programs.
        digest.update(&request.origin);
        if let Some(interpreter) = &interpreter {
            digest.update(interpreter.as_os_str().as_bytes());
        }
        let digest = hex::encode(digest.finalize());
        let version = match request.ecosystem {
            Ecosystem::Npm => npm::version(request, folder)?,
            Ecosystem::Pypi => pypi::version(request, folder)?,
        };
        let tree = match owner {
            Some(owner) => format!("{}-{digest}-{owner}", request.ecosystem.name()),
            None => format!("{}-{digest}", request.ecosystem.name()),
        };
        Ok(Self {
            package: Package {
                ecosystem: request.ecosystem,
                requested: request.requested.clone(),
                name: request.name.clone(),
                version,
                lock_digest: format!("sha256:{locked}"),
            },
            tree,
            confirm_new_versions: request.confirm_new_versions,
            origin: Some(request.origin.clone()),
            interpreter,
        })
    }

    /// The pin in a folder; `None` if there is none, or one for another request.
    pub(crate) fn read(folder: &Path, request: &PackageRequest) -> Option<Self> {
        let pin = Self::any(folder)?;
        let same = pin.package.ecosystem == request.ecosystem
            && pin.package.requested == request.requested
            && pin.origin.as_ref().is_none_or(|origin| *origin == request.origin);
        same.then_some(pin)
    }

    pub(super) fn any(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(NAME)).ok()?).ok()
    }

    /// Writes the pin and the lock file from the folder `from` into a folder, which it replaces atomically.
    pub(super) fn write(&self, folder: &PathBuf, from: &Path) -> io::Result<()> {
        let new = folder.with_extension("new");
        remove(&new)?;
        fs::create_dir(&new)?;
        for name in lock_files(self.package.ecosystem) {
            fs::write(new.join(name), read_made(from, name)?)?;
        }
        let mut file = fs::File::create(new.join(NAME))?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        // Either the old or the new folder exists at any moment.
        match renameat2(AT_FDCWD, &new, AT_FDCWD, folder, RenameFlags::RENAME_EXCHANGE) {
            Ok(()) => remove(&new),
            Err(Errno::ENOENT) => fs::rename(&new, folder),
            Err(error) => Err(error.into()),
        }
    }
}

/// Removes a folder that [`Pin::write`] created, if it exists.
fn remove(folder: &PathBuf) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
