//! Which versions an installation runs.

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

use super::{Wanted, made::read_made, npm, pypi};
use crate::domain::package::{Ecosystem, Package};

const NAME: &str = "pin.json";

/// The versions of an installation's package, kept in a folder with the lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pin {
    pub(crate) package: Package,
    /// Name of its tree.
    pub(crate) tree: String,
    /// [`Wanted::confirm_new_versions`].
    #[serde(default)]
    pub(super) confirm_new_versions: bool,
    /// [`Wanted::origin`]; `None` in a pin of an older version of Chandlery, whose versions stay, and whose tree is made anew.
    #[serde(default)]
    pub(super) origin: Option<String>,
    /// What runs a virtual environment, as it was before anything of the package was there.
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
    /// Of the lock file in a folder.
    pub(super) fn of(wanted: &Wanted, folder: &Path, owner: Option<&str>) -> io::Result<Self> {
        let mut digest = Sha256::new();
        for name in lock_files(wanted.ecosystem) {
            let text = read_made(folder, name)?;
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text);
        }
        let locked = hex::encode(digest.clone().finalize());
        let interpreter = match wanted.ecosystem {
            Ecosystem::Npm => None,
            Ecosystem::Pypi => Some(pypi::interpreter(folder)?),
        };
        // Nobody gets the tree that another registry's files are in, or another's programs made.
        digest.update(&wanted.origin);
        if let Some(interpreter) = &interpreter {
            digest.update(interpreter.as_os_str().as_bytes());
        }
        let digest = hex::encode(digest.finalize());
        let version = match wanted.ecosystem {
            Ecosystem::Npm => npm::version(wanted, folder)?,
            Ecosystem::Pypi => pypi::version(wanted, folder)?,
        };
        let tree = match owner {
            Some(owner) => format!("{}-{digest}-{owner}", wanted.ecosystem.name()),
            None => format!("{}-{digest}", wanted.ecosystem.name()),
        };
        Ok(Self {
            package: Package {
                ecosystem: wanted.ecosystem,
                requested: wanted.requested.clone(),
                name: wanted.name.clone(),
                version,
                lock_digest: format!("sha256:{locked}"),
            },
            tree,
            confirm_new_versions: wanted.confirm_new_versions,
            origin: Some(wanted.origin.clone()),
            interpreter,
        })
    }

    /// The one in a folder; `None` where there is none, or one that was for something else.
    pub(crate) fn read(folder: &Path, wanted: &Wanted) -> Option<Self> {
        let pin = Self::any(folder)?;
        let same = pin.package.ecosystem == wanted.ecosystem
            && pin.package.requested == wanted.requested
            && pin.origin.as_ref().is_none_or(|origin| *origin == wanted.origin);
        same.then_some(pin)
    }

    pub(super) fn any(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(NAME)).ok()?).ok()
    }

    /// Puts it into a folder whole, in place of another, with the lock file that is in `from`.
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
        // At every moment one of them is there.
        match renameat2(AT_FDCWD, &new, AT_FDCWD, folder, RenameFlags::RENAME_EXCHANGE) {
            Ok(()) => remove(&new),
            Err(Errno::ENOENT) => fs::rename(&new, folder),
            Err(error) => Err(error.into()),
        }
    }
}

/// A folder that [`Pin::write`] made, if it is there.
fn remove(folder: &PathBuf) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
