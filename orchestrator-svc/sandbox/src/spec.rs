//! What the launcher is told.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::{layers::Layers, resources::Resources};

/// First argument of the program that is to be a launcher; the second is the number of its socket.
pub const LAUNCHER: &str = "sandbox-launcher";

/// What to start, and within what. It holds secrets: it travels by socket only, prints none, and is wiped on drop.
#[derive(Serialize, Deserialize)]
pub struct Spec {
    /// The program; looked up on the `PATH` of `environment` where it holds no slash.
    pub command: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// Where it runs.
    pub working_folder: PathBuf,
    /// What it may see and do.
    pub confinement: Confinement,
}

/// What a program may see and do. Nothing here is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// What holds it; each must hold, or nothing starts.
    pub layers: Layers,
    /// What it sees beyond the programs and libraries of the system.
    pub grants: Vec<Grant>,
    /// What it finds as `/tmp`. Without namespaces, it gets this path itself.
    pub temporary_folder: PathBuf,
    /// Never granted, whatever holds it: the folder with everybody's secrets, and all above it.
    pub hidden: PathBuf,
    /// TCP ports that it may connect to; `None`: all.
    pub connect: Option<Vec<u16>>,
    /// TCP ports that it may listen on; `None`: all.
    pub listen: Option<Vec<u16>>,
    /// How much it may use.
    pub resources: Resources,
}

impl Confinement {
    /// Whether its ports of TCP are limited; see [`Layers::limits_tcp`].
    pub(crate) fn limits_tcp(&self) -> bool {
        self.layers.limits_tcp() && (self.connect.is_some() || self.listen.is_some())
    }
}

/// Something a program sees, with all that is below.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// Absolute.
    pub path: PathBuf,
    /// What it may do there.
    pub access: Access,
}

/// What may be done with files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// To read and to execute.
    Read,
    /// To change it as well.
    Write,
}

impl Grant {
    /// To read and execute.
    pub fn read(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            access: Access::Read,
        }
    }

    /// To read, execute and change.
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
