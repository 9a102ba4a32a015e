//! The sandbox of the servers of this machine, and what each of them may access.

use std::{
    io,
    path::{Path, PathBuf},
};

use sandbox::{Confinement, Grant, Layers, Level, Protection};

use super::folders::Own;
use crate::config::{Sandbox as Config, SandboxMode};

/// The sandbox as it was tested when the service started.
#[derive(Debug)]
pub(crate) struct Sandbox {
    config: Config,
    layers: Layers,
    hidden: PathBuf,
}

/// Why servers cannot be sandboxed as configured.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A folder of the configuration cannot be made accessible.
    #[error("servers cannot be given access to {} (--server-read, --server-write): {why}", path.display())]
    Folder {
        /// As configured.
        path: PathBuf,
        /// For operators.
        why: String,
    },
    /// The launcher does not start, or its scratch folder cannot be created.
    #[error("the sandbox cannot be tested: {0}")]
    Probe(#[from] io::Error),
    /// The sandbox protects less than is required.
    #[error(
        "this machine cannot sandbox servers as required: {}. What failed: {}. Enable it (user namespaces: user.max_user_namespaces, \
         which fails with \"No space left\" when it is used up, kernel.unprivileged_userns_clone, \
         kernel.apparmor_restrict_unprivileged_userns; in a container, its seccomp profile), or use --sandbox best-effort to run servers \
         without these protections",
        missing.join(", "),
        if failed.is_empty() { "nothing".to_owned() } else { failed.join("; ") }
    )]
    Insufficient {
        /// What is not protected, and what would be required.
        missing: Vec<String>,
        /// The mechanisms that were tested and failed.
        failed: Vec<String>,
    },
}

impl Sandbox {
    /// Tests the mechanisms of this machine, and compares them with the configuration. `hidden` is an existing path without symbolic links.
    pub(crate) fn new(config: Config, program: &Path, hidden: &Path, scratch: &Path) -> Result<Self, SandboxError> {
        let mut config = config;
        for path in config.read.iter_mut().chain(&mut config.write) {
            *path = checked(path, hidden)?;
        }
        // In a folder that it may write, a server could replace anything with a symbolic link to anywhere.
        for path in config.read.iter().chain(&config.write) {
            let around = config
                .write
                .iter()
                .find(|write| *write != path && path.starts_with(write));
            if let Some(around) = around {
                return Err(SandboxError::Folder {
                    path: path.clone(),
                    why: format!("it is inside {}, where servers can replace it", around.display()),
                });
            }
        }
        let (layers, failed) = match config.mode {
            SandboxMode::Off => (Layers::default(), Vec::new()),
            SandboxMode::BestEffort | SandboxMode::Required => sandbox::probe(program, hidden, scratch)?,
        };
        let held = Self {
            config,
            layers,
            hidden: hidden.to_owned(),
        };
        let protections = held.protections();
        if held.config.mode == SandboxMode::Required {
            let short = protections.iter().filter(|p| p.required && p.level < Level::Enforced);
            let missing: Vec<_> = short.map(|p| format!("{}: {}", p.subject, p.by)).collect();
            if !missing.is_empty() {
                return Err(SandboxError::Insufficient { missing, failed });
            }
        }
        report(held.config.mode, &protections, &failed);
        Ok(held)
    }

    /// What is protected from servers.
    pub(crate) fn protections(&self) -> Vec<Protection> {
        self.layers.protections()
    }

    /// The folder that servers cannot access.
    pub(crate) fn hidden(&self) -> &Path {
        &self.hidden
    }

    /// The paths that all servers may write.
    pub(crate) fn writable(&self) -> &[PathBuf] {
        &self.config.write
    }

    /// The value of a server's `TMPDIR`.
    pub(crate) fn temporary_folder<'a>(&self, own: &'a Own) -> &'a Path {
        if self.layers.namespaces {
            Path::new("/tmp")
        } else {
            &own.temporary
        }
    }

    /// The confinement of a server with these folders, which has access to `programs` too.
    pub(crate) fn for_server(&self, own: &Own, programs: Vec<Grant>) -> Confinement {
        let mut grants = programs;
        grants.extend(self.config.write.iter().map(Grant::write));
        grants.push(Grant::write(&own.work));
        grants.push(Grant::write(&own.home));
        self.with(own, grants)
    }

    /// The confinement of a fetch: except for `grants`, nothing that servers can write.
    pub(crate) fn for_fetch(&self, own: &Own, grants: Vec<Grant>) -> Confinement {
        self.with(own, grants)
    }

    /// The confinement with these grants, and the paths that everything may read.
    fn with(&self, own: &Own, mut grants: Vec<Grant>) -> Confinement {
        grants.extend(self.config.read.iter().map(Grant::read));
        Confinement {
            layers: self.layers.clone(),
            grants,
            temporary_folder: own.temporary.clone(),
            hidden: self.hidden.clone(),
            connect: self.config.connect.clone(),
            listen: Some(Vec::new()),
            resources: self.config.resources.clone(),
        }
    }
}

fn checked(path: &Path, hidden: &Path) -> Result<PathBuf, SandboxError> {
    let refuse = |why: String| SandboxError::Folder {
        path: path.to_owned(),
        why,
    };
    let real = path.canonicalize().map_err(|error| refuse(error.to_string()))?;
    if real.starts_with(hidden) || hidden.starts_with(&real) {
        return Err(refuse(
            "it contains the data folder, which holds all secrets, or is inside it".to_owned(),
        ));
    }
    Ok(real)
}

fn report(mode: SandboxMode, protections: &[Protection], failed: &[String]) {
    for what in failed {
        tracing::warn!("a part of the sandbox is missing: {what}");
    }
    let of = |level| {
        let subjects = protections.iter().filter(|p| p.level == level).map(|p| p.subject);
        subjects.collect::<Vec<_>>().join(" ")
    };
    let (enforced, partial, none) = (of(Level::Enforced), of(Level::Partial), of(Level::None));
    if mode == SandboxMode::Off {
        tracing::warn!("the sandbox is off: every local server can read and change everything that this user can");
    } else {
        tracing::info!(enforced, partial, none, "protections from local servers");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A server could replace the inner path with a symbolic link.
    #[test]
    fn nothing_is_shared_that_servers_could_put_in_place() {
        let house = tempfile::tempdir().unwrap();
        let root = house.path().canonicalize().unwrap();
        for folder in ["data", "shared/a/ro"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let tried = |read: &[&str], write: &[&str]| {
            let all = |paths: &[&str]| paths.iter().map(|path| root.join(path)).collect();
            let config = Config {
                mode: SandboxMode::Off,
                read: all(read),
                write: all(write),
                ..Config::default()
            };
            Sandbox::new(config, Path::new("/nowhere"), &root.join("data"), &root).map(drop)
        };
        for (read, write) in [(&["shared/a/ro"][..], &["shared"][..]), (&[], &["shared", "shared/a"])] {
            assert!(
                matches!(tried(read, write), Err(SandboxError::Folder { .. })),
                "{read:?} {write:?}"
            );
        }
        tried(&["shared"], &["shared/a"]).unwrap();
        tried(&["shared"], &["shared"]).unwrap();
    }
}
