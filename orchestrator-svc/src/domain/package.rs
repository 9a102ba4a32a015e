//! Packages that runtimes fetch for servers.

use serde::{Deserialize, Serialize};

/// Where a package comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ecosystem {
    Npm,
    Pypi,
}

impl Ecosystem {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pypi => "pypi",
        }
    }
}

/// A package that was fetched. Its versions stay the same until somebody requests an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Package {
    pub(crate) ecosystem: Ecosystem,
    /// As the entry names it, with its version if it names one: `@scope/server@1.2`, `server[extra]==1.2`.
    pub(crate) requested: String,
    /// The name without version.
    pub(crate) name: String,
    /// The exact version.
    pub(crate) version: String,
    /// `sha256:` and the hex digest of the lock file, which has the digests of this package and all its dependencies.
    pub(crate) lock_digest: String,
}
