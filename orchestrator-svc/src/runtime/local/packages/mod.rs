//! Packages of npm and PyPI, fetched once and run from where they were fetched to.
//!
//! A package is fetched by a task of its own: held as servers are, without secrets, and without running any code of the package. What it
//! makes is a *tree*, which no server can change and which all share that run the same versions. Each installation keeps the lock file
//! of its tree (its *pin*): it runs these versions until somebody asks for others, also where the tree has to be made again.

mod npm;
mod pin;
mod pypi;
mod trees;

use std::path::PathBuf;

pub(crate) use pin::Pin;
pub(crate) use trees::Trees;

use crate::domain::package::{Ecosystem, Wanted};

/// Longest that a fetch may take, in milliseconds.
pub(crate) const FETCH_MILLIS: u64 = 600_000;
/// Settings of npm and uv that say where packages come from, and how to get there: those of the service's environment, and of the
/// entry's. None of them runs anything.
pub(crate) const SETTINGS: [&str; 16] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "npm_config_registry",
    "NPM_CONFIG_REGISTRY",
    "npm_config_cafile",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_PYTHON",
    "UV_SYSTEM_CERTS",
    "UV_NATIVE_TLS",
];

/// A tree that is being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) wanted: Wanted,
    /// Where it is made.
    pub(crate) folder: PathBuf,
    /// Whether the versions are those of the installation's pin.
    pub(crate) pinned: bool,
    /// Whether the packages' own installation scripts run, in a tree that is then this installation's alone.
    pub(crate) scripts: bool,
}

impl Fetch {
    /// The commands, as a shell's script. Its `$0` is the package manager.
    pub(crate) fn script(&self) -> &'static str {
        match (self.wanted.ecosystem, self.scripts, self.pinned) {
            (Ecosystem::Npm, true, _) => npm::RUN_SCRIPTS,
            (Ecosystem::Npm, false, true) => npm::FETCH_PINNED,
            (Ecosystem::Npm, false, false) => npm::FETCH,
            (Ecosystem::Pypi, _, true) => pypi::FETCH_PINNED,
            (Ecosystem::Pypi, _, false) => pypi::FETCH,
        }
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
