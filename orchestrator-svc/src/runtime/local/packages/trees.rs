//! The folder of all trees.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Fetch, PackageRequest, Pins, Step,
    made::read_made,
    npm,
    pin::{self, Pin},
    pypi,
};
use crate::{domain::package::Ecosystem, runtime::local::removal::Removal};

/// The prefix of the folders of unfinished fetches.
const UNFINISHED: &str = "new-";

/// The folder of all trees.
#[derive(Debug)]
pub(crate) struct Trees {
    folder: PathBuf,
    removal: Removal,
}

impl Trees {
    /// Removes everything except the trees that `pins` name.
    pub(crate) fn new(folder: PathBuf, pins: impl Iterator<Item = Pins>, removal: Removal) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let used: HashSet<_> = pins.filter_map(|pins| pins.tree()).collect();
        for entry in fs::read_dir(&folder)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !used.contains(&name)
                && let Err(error) = removal.remove(&entry.path())
            {
                tracing::warn!(folder = name, error = %error, "the folder of a package could not be removed");
            }
        }
        Ok(Self { folder, removal })
    }

    /// The folder of a pin's tree.
    pub(crate) fn folder(&self, pin: &Pin) -> PathBuf {
        self.folder.join(&pin.tree)
    }

    /// The fetch that is required before a package can run with the pinned versions, or with `newest`, with the newest ones that match. `None` if
    /// the tree exists.
    pub(crate) fn prepare_fetch(
        &self,
        request: &PackageRequest,
        pins: &Pins,
        newest: bool,
    ) -> io::Result<Option<Fetch>> {
        let pinned = pins.make_current(request)?.filter(|_| !newest);
        if let Some(pin) = &pinned
            && pin.origin.is_some()
            && self.folder(pin).is_dir()
            && pin.interpreter.as_ref().is_none_or(|interpreter| interpreter.exists())
        {
            return Ok(None);
        }
        let mut fetch = Fetch {
            request: request.clone(),
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

    /// Accepts the result of a step. Returns the fetch if it has another step; otherwise moves the tree to its place and pins it for the
    /// installation.
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
        let (request, tree, lock) = (&fetch.request, fetch.tree(), fetch.lock());
        if fetch.step == Step::Resolve {
            lock_down(request.ecosystem, &tree, &lock)?;
            if request.ecosystem == Ecosystem::Pypi {
                pypi::note_interpreter(&tree, &lock)?;
            }
        }
        let scripted = request.ecosystem == Ecosystem::Npm && npm::has_scripts(&lock)?;
        let pin = Pin::of(request, &lock, scripted.then_some(owner))?;
        let folder = self.folder(&pin);
        match fetch.step {
            // The tree exists, since another installation runs the same versions.
            Step::Resolve if !scripted && folder.is_dir() => {
                self.program(request, &folder)?;
                return pins.put(request, &pin, &lock).map(|()| None);
            }
            Step::Resolve => return Ok(Some(Step::Install)),
            Step::Install if scripted => return Ok(Some(Step::RunScripts)),
            Step::Install | Step::RunScripts => {}
        }
        self.program(request, &tree)?;
        // The pin is written before the tree is in place: a tree without a pin would be removed at the next start.
        pins.put(request, &pin, &lock)?;
        match fs::rename(&tree, &folder) {
            // Another installation has created the same tree meanwhile.
            Err(_) if folder.is_dir() => {}
            outcome => outcome?,
        }
        Ok(None)
    }

    /// Removes the files of an unfinished fetch.
    pub(crate) fn give_up(&self, fetch: &Fetch) -> io::Result<()> {
        self.removal.remove(&fetch.folder)
    }

    /// The program to run, in a tree or in the folder that becomes one.
    pub(crate) fn program(&self, request: &PackageRequest, tree: &Path) -> io::Result<String> {
        match request.ecosystem {
            Ecosystem::Npm => npm::program(request, tree),
            Ecosystem::Pypi => pypi::program(request, tree),
        }
    }
}

/// Creates the folders of a fetch, with the input of its first step.
fn prepare(fetch: &mut Fetch, pinned: Option<&Path>) -> io::Result<()> {
    fs::create_dir(&fetch.folder)?;
    for folder in [fetch.tree(), fetch.home(), fetch.lock(), fetch.temporary()] {
        fs::create_dir(folder)?;
    }
    let ecosystem = fetch.request.ecosystem;
    match (pinned, ecosystem) {
        (None, Ecosystem::Npm) => npm::ask(&fetch.request, &fetch.tree()),
        (None, Ecosystem::Pypi) => pypi::ask(&fetch.request, &fetch.tree()),
        (Some(pin), _) => {
            lock_down(ecosystem, pin, &fetch.lock())?;
            for name in pin::lock_files(ecosystem) {
                fs::copy(fetch.lock().join(name), fetch.tree().join(name))?;
            }
            // For PyPI, the first step is required too: it creates the virtual environment.
            if ecosystem == Ecosystem::Npm {
                fetch.step = Step::Install;
            }
            Ok(())
        }
    }
}

/// Checks a lock file before its packages are fetched, and copies it to where no step can change it.
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
    fn folders_that_a_script_made_inaccessible_are_removed_and_block_no_start() {
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
            let request = PackageRequest::of("npx", &arguments).unwrap();
            let pins = Pins::new(house.path());
            for _ in 0..3 {
                let fetch = trees().prepare_fetch(&request, &pins, false).unwrap().unwrap();
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
