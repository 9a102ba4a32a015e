//! Resource limits of a program.

use nix::{
    libc::rlim_t,
    sys::resource::{Resource, getrlimit, setrlimit},
};
use serde::{Deserialize, Serialize};

/// Limits of each process, except `processes`. Limits of a whole server would require a control group, which only an administrator of the machine
/// can delegate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Private memory, in bytes. The address space is not limited, since Node.js reserves far more than it uses.
    pub memory_bytes: u64,
    /// Processes and threads of the program, together. Effective only in a user namespace, since it counts those of the user outside, and not
    /// for root.
    pub processes: u64,
    /// The largest file, in bytes.
    pub file_bytes: u64,
    /// Open files.
    pub open_files: u64,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            memory_bytes: 4 << 30,
            processes: 512,
            file_bytes: 4 << 30,
            open_files: 4096,
        }
    }
}

impl Resources {
    /// Limits this process and its descendants, permanently.
    pub(crate) fn apply(&self, namespaces: bool) -> nix::Result<()> {
        let mut limits = vec![
            // A core dump would contain secrets.
            (Resource::RLIMIT_CORE, 0),
            (Resource::RLIMIT_DATA, self.memory_bytes),
            (Resource::RLIMIT_FSIZE, self.file_bytes),
            (Resource::RLIMIT_NOFILE, self.open_files),
            (Resource::RLIMIT_MEMLOCK, 8 << 20),
            (Resource::RLIMIT_MSGQUEUE, 0),
        ];
        if namespaces {
            limits.push((Resource::RLIMIT_NPROC, self.processes));
        }
        for (resource, wanted) in limits {
            let (_, allowed) = getrlimit(resource)?;
            let limit: rlim_t = wanted.min(allowed);
            setrlimit(resource, limit, limit)?;
        }
        Ok(())
    }
}
