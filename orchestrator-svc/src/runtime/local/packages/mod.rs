//! Packages of npm and PyPI, fetched once and run from where they were fetched to.
//!
//! A package is fetched by tasks of its own: held as servers are, without secrets, without running any code of the package, and with
//! nothing writable that another fetch sees: its `HOME`, and with that the package manager's cache, goes with it. What it makes is a
//! *tree*, which no server can change and which all share that run the same versions. Each installation keeps the lock file of its tree
//! (its *pin*): it runs these versions until somebody asks for others, also where the tree has to be made again.

mod made;
mod npm;
mod origin;
mod pin;
mod pins;
mod pypi;
mod settings;
mod trees;
mod wanted;

use std::{collections::BTreeSet, path::PathBuf};

pub(crate) use origin::origin;
pub(crate) use pins::Pins;
pub(crate) use settings::Settings;
pub(crate) use trees::Trees;
pub(crate) use wanted::Wanted;

use crate::domain::package::Ecosystem;

/// Longest that a fetch may take, in milliseconds.
pub(crate) const FETCH_MILLIS: u64 = 600_000;
/// A tree that is being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) wanted: Wanted,
    /// What is this fetch's alone, removed after it.
    folder: PathBuf,
    pub(crate) step: Step,
}

/// What comes next. Between two steps, the service looks at what the first one made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Writes the lock file.
    Resolve,
    /// Unpacks what the lock file names.
    Install,
    /// Runs the packages' own installation scripts, in a tree that is then this installation's alone.
    RunScripts,
}

impl Fetch {
    /// The commands, as a shell's script. Its `$0` is the package manager.
    pub(crate) fn script(&self) -> &'static str {
        match (self.wanted.ecosystem, self.step) {
            (Ecosystem::Npm, Step::Resolve) => npm::RESOLVE,
            (Ecosystem::Npm, Step::Install) => npm::INSTALL,
            (Ecosystem::Npm, Step::RunScripts) => npm::RUN_SCRIPTS,
            (Ecosystem::Pypi, Step::Resolve) => pypi::RESOLVE,
            (Ecosystem::Pypi, Step::Install | Step::RunScripts) => pypi::INSTALL,
        }
    }

    /// What becomes the tree.
    pub(crate) fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// `HOME` of the package manager.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// `TMPDIR` of its steps: a server of the same owner may run beside them, with its own.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    /// Locked by the bridge that runs a step.
    pub(crate) fn bridge_lock(&self) -> PathBuf {
        self.folder.join("bridge")
    }

    /// Where the lock file is once it has been looked at: no step can write there.
    fn lock(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// The TCP ports that this step may connect to; `None`: those that servers may.
    pub(crate) fn ports(&self, settings: &Settings) -> Option<BTreeSet<u16>> {
        (self.step != Step::RunScripts).then(|| settings.ports())
    }

    /// Variables for this step.
    pub(crate) fn environment(&self, settings: &Settings) -> Vec<(String, String)> {
        let mut variables: Vec<_> = settings.proxies().collect();
        if self.step == Step::RunScripts {
            // Code of others: it needs no registry, and gets nobody's password.
            variables.retain(|(_, value)| !value.contains('@'));
        } else {
            variables.extend(settings.of_manager());
        }
        let ours = match self.wanted.ecosystem {
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
