//! Packages of npm and PyPI, which are fetched once and run from there.
//!
//! A package is fetched by a sandboxed process without secrets, which shares no writable files with other fetches: its `HOME`, which has the
//! package manager's cache, is removed afterwards. Code of packages runs only in a separate step, for installation scripts. The result is a *tree* of
//! installed files, which no server can change. Installations that run the same versions share it. Each installation keeps the lock file
//! of its tree (its *pin*): it runs these versions until an update is requested, even if the tree has to be created again.

mod made;
mod npm;
mod origin;
mod pin;
mod pins;
mod pypi;
mod request;
mod settings;
mod trees;

use std::{collections::BTreeSet, path::PathBuf};

pub(crate) use origin::origin;
pub(crate) use pins::Pins;
pub(crate) use request::PackageRequest;
pub(crate) use settings::Settings;
pub(crate) use trees::Trees;

use crate::domain::package::Ecosystem;

/// The longest duration of a step, in milliseconds.
pub(crate) const FETCH_MILLIS: u64 = 600_000;

/// A fetch, which creates a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) request: PackageRequest,
    /// The folder of this fetch, removed after it.
    folder: PathBuf,
    pub(crate) step: Step,
}

/// A step of a fetch. After each, the service checks its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Writes the lock file.
    Resolve,
    /// Installs the packages of the lock file.
    Install,
    /// Runs the installation scripts of the packages, in a tree that no other installation uses.
    RunScripts,
}

impl Fetch {
    /// The shell script of this step. Its `$0` is the package manager.
    pub(crate) fn script(&self) -> &'static str {
        match (self.request.ecosystem, self.step) {
            (Ecosystem::Npm, Step::Resolve) => npm::RESOLVE,
            (Ecosystem::Npm, Step::Install) => npm::INSTALL,
            (Ecosystem::Npm, Step::RunScripts) => npm::RUN_SCRIPTS,
            (Ecosystem::Pypi, Step::Resolve) => pypi::RESOLVE,
            (Ecosystem::Pypi, Step::Install | Step::RunScripts) => pypi::INSTALL,
        }
    }

    /// The folder that becomes the tree.
    pub(crate) fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// `HOME` of the package manager.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// `TMPDIR` of the steps. A server of the same owner may be running, with another one.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    /// A file that the bridge of a step locks.
    pub(crate) fn bridge_lock(&self) -> PathBuf {
        self.folder.join("bridge")
    }

    /// The folder of the lock file after it was checked. No step can write there.
    fn lock(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// The TCP ports that this step may connect to; `None` for those that servers may.
    pub(crate) fn ports(&self, settings: &Settings) -> Option<BTreeSet<u16>> {
        (self.step != Step::RunScripts).then(|| settings.ports())
    }

    /// The environment variables of this step.
    pub(crate) fn environment(&self, settings: &Settings) -> Vec<(String, String)> {
        let mut variables: Vec<_> = settings.proxies().collect();
        if self.step == Step::RunScripts {
            // Third-party code, which requires no registry and must not get passwords.
            variables.retain(|(_, value)| !value.contains('@'));
        } else {
            variables.extend(settings.of_manager());
        }
        let ours = match self.request.ecosystem {
            Ecosystem::Npm => &npm::ENVIRONMENT[..],
            Ecosystem::Pypi => &pypi::ENVIRONMENT[..],
        };
        variables.extend(
            ours.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        variables
    }
}

/// The package manager that comes with a launcher: `npm` beside `npx`, `uv` beside `uvx`.
pub(crate) fn manager(ecosystem: Ecosystem, launcher: &str) -> String {
    let name = match ecosystem {
        Ecosystem::Npm => "npm",
        Ecosystem::Pypi => "uv",
    };
    match launcher.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{name}"),
        None => name.to_owned(),
    }
}
