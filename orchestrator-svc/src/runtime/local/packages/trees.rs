//! The folder of all trees.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{Fetch, Pin, npm, pin, pypi};
use crate::domain::package::{Ecosystem, Wanted};

/// Begins the name of what is being made.
const UNFINISHED: &str = "new-";
/// The package managers' own folder.
const HOME: &str = "home";

/// All trees.
#[derive(Debug)]
pub(crate) struct Trees(PathBuf);

impl Trees {
    /// Removes what was not finished, and trees that none of `pins` names.
    pub(crate) fn new(folder: PathBuf, pins: impl Iterator<Item = PathBuf>) -> io::Result<Self> {
        fs::create_dir_all(folder.join(HOME))?;
        let used: HashSet<_> = pins.filter_map(|folder| Some(Pin::any(&folder)?.tree)).collect();
        for entry in fs::read_dir(&folder)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != HOME && !used.contains(&name) {
                pin::remove(&entry.path())?;
            }
        }
        Ok(Self(folder))
    }

    /// Where the package managers keep what they have downloaded.
    pub(crate) fn home(&self) -> PathBuf {
        self.0.join(HOME)
    }

    /// A tree's folder.
    pub(crate) fn folder(&self, pin: &Pin) -> PathBuf {
        self.0.join(&pin.tree)
    }

    /// What has to be fetched before a package can be run as its installation's pin says. `anew`: with the newest versions that fit.
    pub(crate) fn to_fetch(&self, wanted: &Wanted, pins: &Path, anew: bool) -> io::Result<Option<Fetch>> {
        let pinned = Pin::read(pins, wanted).filter(|_| !anew);
        if let Some(pin) = &pinned
            && self.folder(pin).is_dir()
        {
            return Ok(None);
        }
        let folder = self.0.join(format!("{UNFINISHED}{}", Uuid::new_v4().simple()));
        fs::create_dir(&folder)?;
        if pinned.is_some() {
            for name in pin::lock_files(wanted.ecosystem) {
                fs::copy(pins.join(name), folder.join(name))?;
            }
        } else {
            match wanted.ecosystem {
                Ecosystem::Npm => npm::ask(wanted, &folder)?,
                Ecosystem::Pypi => pypi::ask(wanted, &folder)?,
            }
        }
        Ok(Some(Fetch {
            wanted: wanted.clone(),
            folder,
            pinned: pinned.is_some(),
            scripts: false,
        }))
    }

    /// Puts what was fetched in its place and pins it for its installation, or says what is still to run.
    pub(crate) fn finish(&self, mut fetch: Fetch, pins: &PathBuf, owner: &str) -> io::Result<Option<Fetch>> {
        let wanted = &fetch.wanted;
        let scripted = wanted.ecosystem == Ecosystem::Npm && npm::has_scripts(&fetch.folder)?;
        if scripted && !fetch.scripts {
            fetch.scripts = true;
            return Ok(Some(fetch));
        }
        let pin = Pin::of(wanted, &fetch.folder, scripted.then_some(owner))?;
        self.program(wanted, &fetch.folder)?;
        let folder = self.folder(&pin);
        // The pin is for good before the tree is in its place: a tree without pin would be removed at the next start.
        pin.write(pins, &fetch.folder)?;
        match fs::rename(&fetch.folder, &folder) {
            // Another installation was quicker: its tree is the same.
            Err(_) if folder.is_dir() => pin::remove(&fetch.folder)?,
            outcome => outcome?,
        }
        Ok(None)
    }

    /// Removes what was not fetched to the end.
    pub(crate) fn give_up(&self, fetch: &Fetch) -> io::Result<()> {
        pin::remove(&fetch.folder)
    }

    /// The program to run, in a tree or in what becomes one.
    pub(crate) fn program(&self, wanted: &Wanted, tree: &Path) -> io::Result<String> {
        match wanted.ecosystem {
            Ecosystem::Npm => npm::program(wanted, tree),
            Ecosystem::Pypi => pypi::program(wanted, tree),
        }
    }
}
