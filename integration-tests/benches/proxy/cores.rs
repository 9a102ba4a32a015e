//! Which cores the processes run on.

use std::{fmt, fs};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// How the processes are placed on cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// The proxy on one core, the load and the upstream on the others: what one takes from the other is not measured.
    Pinned,
    /// All on all cores, as the system places them.
    Unpinned,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pinned => "pinned",
            Self::Unpinned => "unpinned",
        })
    }
}

/// The cores that this process may use.
#[derive(Debug)]
pub(crate) struct Cores(Vec<usize>);

impl Cores {
    pub(crate) fn of_this_process() -> Self {
        let set = sched_getaffinity(Pid::from_raw(0)).expect("Linux reports it");
        let cores = (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or_default());
        Self(cores.collect())
    }

    /// The placements that are possible: none is pinned if there is one core.
    pub(crate) fn placements(&self) -> &'static [Placement] {
        match self.0.len() {
            1 => &[Placement::Unpinned],
            _ => &[Placement::Pinned, Placement::Unpinned],
        }
    }

    /// Places the processes of a proxy, and the other processes and this one. Threads that they start later stay there, too.
    pub(crate) fn place(&self, placement: Placement, proxy: &[i32], others: &[i32]) {
        let own = i32::try_from(std::process::id()).expect("a pid is small");
        let (first, rest) = match placement {
            Placement::Pinned => self.0.split_at(1),
            Placement::Unpinned => (&self.0[..], &self.0[..]),
        };
        for pid in others.iter().chain([&own]) {
            place(*pid, rest);
        }
        for pid in proxy {
            place(*pid, first);
        }
    }
}

/// Lets all threads of a process run on these cores alone. A thread may end meanwhile.
fn place(pid: i32, cores: &[usize]) {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core).expect("it is one of this set");
    }
    for thread in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        if let Some(id) = thread.file_name().to_str().and_then(|name| name.parse().ok()) {
            let _ = sched_setaffinity(Pid::from_raw(id), &set);
        }
    }
}
