//! The input of the launcher.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::{layers::Layers, resources::Resources};

/// The first argument of a program that runs as the launcher; the second is the descriptor of its socket.
pub const LAUNCHER: &str = "sandbox-launcher";

/// A program to start, and its sandbox. It contains secrets: it is sent only through a socket, `Debug` does not show them, and they are wiped
/// on drop.
#[derive(Serialize, Deserialize)]
pub struct Spec {
    /// The program; looked up on the `PATH` of `environment` if it has no slash.
    pub command: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// The working folder.
    pub working_folder: PathBuf,
    /// The sandbox.
    pub confinement: Confinement,
}

/// What a program may access and do. Has no secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// The mechanisms to use. If one of them fails, the program is not started.
    pub layers: Layers,
    /// What it can access beyond the programs and libraries of the system.
    pub grants: Vec<Grant>,
    /// The folder that is mounted at `/tmp`. Without namespaces, the program uses this path itself.
    pub temporary_folder: PathBuf,
    /// Never accessible: the folder with all secrets, and the folders that contain it.
    pub hidden: PathBuf,
    /// TCP ports that it may connect to; all if `None`.
    pub connect: Option<Vec<u16>>,
    /// TCP ports that it may listen on; all if `None`.
    pub listen: Option<Vec<u16>>,
    /// Resource limits.
    pub resources: Resources,
}

impl Confinement {
    /// Whether its TCP ports are limited; see [`Layers::limits_tcp`].
    pub(crate) fn limits_tcp(&self) -> bool {
        self.layers.limits_tcp() && (self.connect.is_some() || self.listen.is_some())
    }
}

/// A path that a program can access, with everything below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// An absolute path.
    pub path: PathBuf,
    /// The kind of access.
    pub access: Access,
}

/// A kind of access to files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Read and execute.
    Read,
    /// Read, execute and write.
    Write,
}

impl Grant {
    /// A grant to read and execute.
    pub fn read(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            access: Access::Read,
        }
    }

    /// A grant to read, execute and write.
    pub fn write(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            access: Access::Write,
        }
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec")
            .field("command", &self.command)
            .field("confinement", &self.confinement)
            .finish_non_exhaustive()
    }
}

impl Drop for Spec {
    fn drop(&mut self) {
        self.arguments.iter_mut().for_each(Zeroize::zeroize);
        self.environment.values_mut().for_each(Zeroize::zeroize);
    }
}
