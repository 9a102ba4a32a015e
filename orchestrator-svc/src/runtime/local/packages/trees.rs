//! The folder of all trees.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Fetch, Pins, Step, Wanted,
    made::read_made,
    npm,
    pin::{self, Pin},
    pypi,
};
use crate::{domain::package::Ecosystem, runtime::local::removal::Removal};

/// Begins the name of what is being made.
const UNFINISHED: &str = "new-";

/// All trees.
#[derive(Debug)]
pub(crate) struct Trees {
    folder: PathBuf,
    removal: Removal,
}

impl Trees {
    /// Removes what was not finished, and all else but the trees that `pins` name.
    pub(crate) fn new(folder: PathBuf, pins: impl Iterator<Item = Pins>, removal: Removal) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let used: HashSet<_> = pins.filter_map(|pins| pins.tree()).collect();
        for entry in fs::read_dir(&folder)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !used.contains(&name)
                && let Err(error) = removal.remove(&entry.path())
            {
                tracing::warn!(folder = name, error = %error, "a package's folder is left");
            }
        }
        Ok(Self { folder, removal })
    }

    /// A tree's folder.
    pub(crate) fn folder(&self, pin: &Pin) -> PathBuf {
        self.folder.join(&pin.tree)
    }

    /// What has to be fetched before a package can be run as its installation's pin says. `anew`: with the newest versions that fit.
    pub(crate) fn prepare_fetch(&self, wanted: &Wanted, pins: &Pins, anew: bool) -> io::Result<Option<Fetch>> {
        let pinned = pins.make_current(wanted)?.filter(|_| !anew);
        if let Some(pin) = &pinned
            && pin.origin.is_some()
            && self.folder(pin).is_dir()
            && pin.interpreter.as_ref().is_none_or(|interpreter| interpreter.exists())
        {
            return Ok(None);
        }
        let mut fetch = Fetch {
            wanted: wanted.clone(),
            folder: self
                .folder
                .join(format!("{UNFINISHED}{}", service_kit::random::uuid().simple())),
            step: Step::Resolve,
        };
        let prepared = prepare(&mut fetch, pinned.is_some().then(|| pins.current_folder()));
        if prepared.is_err() {
            self.give_up(&fetch)?;
        }
        prepared.map(|()| Some(fetch))
    }

    /// Takes over what a step made. Puts the tree in its place and pins it for its installation, or says what is still to run.
    pub(crate) fn finish(&self, mut fetch: Fetch, pins: &Pins, owner: &str) -> io::Result<Option<Fetch>> {
        match self.advance(&fetch, pins, owner) {
            Ok(Some(step)) => {
                fetch.step = step;
                Ok(Some(fetch))
            }
            Ok(None) => self.give_up(&fetch).map(|()| None),
            Err(error) => {
                self.give_up(&fetch)?;
                Err(error)
            }
        }
    }

    fn advance(&self, fetch: &Fetch, pins: &Pins, owner: &str) -> io::Result<Option<Step>> {
        let (wanted, tree, lock) = (&fetch.wanted, fetch.tree(), fetch.lock());
        if fetch.step == Step::Resolve {
            lock_down(wanted.ecosystem, &tree, &lock)?;
            if wanted.ecosystem == Ecosystem::Pypi {
                pypi::note_interpreter(&tree, &lock)?;
            }
        }
        let scripted = wanted.ecosystem == Ecosystem::Npm && npm::has_scripts(&lock)?;
        let pin = Pin::of(wanted, &lock, scripted.then_some(owner))?;
        let folder = self.folder(&pin);
        match fetch.step {
            // Others run the same versions.
            Step::Resolve if !scripted && folder.is_dir() => {
                self.program(wanted, &folder)?;
                return pins.put(wanted, &pin, &lock).map(|()| None);
            }
            Step::Resolve => return Ok(Some(Step::Install)),
            Step::Install if scripted => return Ok(Some(Step::RunScripts)),
            Step::Install | Step::RunScripts => {}
        }
        self.program(wanted, &tree)?;
        // The pin is for good before the tree is in its place: a tree without pin would be removed at the next start.
        pins.put(wanted, &pin, &lock)?;
        match fs::rename(&tree, &folder) {
            // Another installation was quicker: its tree is the same.
            Err(_) if folder.is_dir() => {}
            outcome => outcome?,
        }
        Ok(None)
    }

    /// Removes what was not fetched to the end.
    pub(crate) fn give_up(&self, fetch: &Fetch) -> io::Result<()> {
        self.removal.remove(&fetch.folder)
    }

    /// The program to run, in a tree or in what becomes one.
    pub(crate) fn program(&self, wanted: &Wanted, tree: &Path) -> io::Result<String> {
        match wanted.ecosystem {
            Ecosystem::Npm => npm::program(wanted, tree),
            Ecosystem::Pypi => pypi::program(wanted, tree),
        }
    }
}

/// Makes a fetch's folders, with what it is to fetch in them.
fn prepare(fetch: &mut Fetch, pinned: Option<&Path>) -> io::Result<()> {
    fs::create_dir(&fetch.folder)?;
    for folder in [fetch.tree(), fetch.home(), fetch.lock(), fetch.temporary()] {
        fs::create_dir(folder)?;
    }
    let ecosystem = fetch.wanted.ecosystem;
    match (pinned, ecosystem) {
        (None, Ecosystem::Npm) => npm::ask(&fetch.wanted, &fetch.tree()),
        (None, Ecosystem::Pypi) => pypi::ask(&fetch.wanted, &fetch.tree()),
        (Some(pin), _) => {
            lock_down(ecosystem, pin, &fetch.lock())?;
            for name in pin::lock_files(ecosystem) {
                fs::copy(fetch.lock().join(name), fetch.tree().join(name))?;
            }
            // An environment is made anew in any case.
            if ecosystem == Ecosystem::Npm {
                fetch.step = Step::Install;
            }
            Ok(())
        }
    }
}

/// Looks at a lock file before anything of it is fetched, and takes it to where no step can change it.
fn lock_down(ecosystem: Ecosystem, from: &Path, to: &Path) -> io::Result<()> {
    for name in pin::lock_files(ecosystem) {
        fs::write(to.join(name), read_made(from, name)?)?;
    }
    match ecosystem {
        Ecosystem::Npm => npm::check(to),
        Ecosystem::Pypi => pypi::check(to),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::runtime::local::removal::tests::held_by_modes;

    #[test]
    fn what_a_script_has_closed_does_not_pile_up_and_keeps_nobody_from_starting() {
        held_by_modes(|| {
            let house = tempfile::tempdir().unwrap();
            let (packages, removed) = (house.path().join("packages"), house.path().join("removed"));
            fs::create_dir(&removed).unwrap();
            let removal = Removal::new(removed).unwrap();
            let trees = || Trees::new(packages.clone(), std::iter::empty(), removal.clone()).unwrap();
            let close = |folder: &Path| {
                fs::create_dir_all(folder.join("d/e")).unwrap();
                fs::set_permissions(folder.join("d"), fs::Permissions::from_mode(0o000)).unwrap();
            };
            let none_left = || fs::read_dir(&packages).unwrap().next().is_none();
            let arguments = ["-y", "server"].map(str::to_owned);
            let wanted = Wanted::of("npx", &arguments).unwrap();
            let pins = Pins::new(house.path());
            for _ in 0..3 {
                let fetch = trees().prepare_fetch(&wanted, &pins, false).unwrap().unwrap();
                close(&fetch.tree());
                trees().give_up(&fetch).unwrap();
                assert!(none_left());
            }
            for name in ["new-cut-off", "npm-of-nobody"] {
                close(&packages.join(name));
                fs::set_permissions(packages.join(name), fs::Permissions::from_mode(0o000)).unwrap();
            }
            trees();
            assert!(none_left());
        });
    }
}
