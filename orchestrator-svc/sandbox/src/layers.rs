//! What holds a program, and what that protects.

use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

/// What this machine can hold a program with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// User, mount, process and IPC namespaces of its own.
    pub namespaces: bool,
    /// Version of Landlock's interface (Linux, Documentation/userspace-api/landlock.rst); 0: none.
    pub landlock: u8,
    /// A filter of system calls.
    pub seccomp: bool,
    /// The init of the namespaces is asked at listen(2); see [`crate::listening`].
    #[serde(default)]
    pub listen_by_init: bool,
}

/// How far something is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It is not.
    None,
    /// Some of it is.
    Partial,
    /// It is.
    Enforced,
}

/// Something that is protected from programs, how far, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// What: one word, or several joined by `_`.
    pub subject: &'static str,
    /// How far.
    pub level: Level,
    /// By what, or what is missing. For people.
    pub by: String,
    /// Whether an operator who demands a sandbox demands this.
    pub required: bool,
}

impl Layers {
    /// Whether nothing holds a program.
    pub fn none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a program may have Unix sockets, and reaches no one else's: namespaces hide those with a path, Landlock the abstract ones.
    pub(crate) fn scopes_unix_sockets(&self) -> bool {
        self.namespaces && self.landlock >= 6
    }

    /// Whether ports of TCP can be limited: Landlock does not look at every way to use one, the filter closes the others.
    pub(crate) fn limits_tcp(&self) -> bool {
        self.seccomp && self.landlock >= 4
    }

    /// Whether the init decides listen(2) where ports are limited.
    pub(crate) fn asks_to_listen(&self) -> bool {
        self.namespaces && self.listen_by_init && self.limits_tcp()
    }

    /// What these protect.
    pub fn protections(&self) -> Vec<Protection> {
        use Level::{Enforced, None, Partial};
        let landlock = |from: u8| self.landlock >= from;
        let version = format!("Landlock {}", self.landlock);
        let spaces = "namespaces".to_owned();
        let missing = |what: &str| (None, what.to_owned());
        let of = |subject, required, (level, by)| Protection {
            subject,
            level,
            by,
            required,
        };
        let files = match (self.namespaces, landlock(1)) {
            (true, true) => (Enforced, format!("{spaces}, {version}")),
            (true, false) => (Enforced, spaces.clone()),
            (false, true) => (Enforced, version.clone()),
            (false, false) => missing("needs user namespaces or Landlock"),
        };
        let metadata = match self.namespaces {
            true => (Enforced, spaces.clone()),
            false => missing("needs user namespaces"),
        };
        let processes = match (self.namespaces, landlock(1), self.seccomp) {
            (true, ..) => (Enforced, spaces.clone()),
            (false, true, true) => (Enforced, format!("{version}, seccomp")),
            (false, true, false) => (
                Partial,
                format!("{version}; their limits and priority can be set: that needs user namespaces or seccomp"),
            ),
            (false, false, _) => missing("needs user namespaces or Landlock"),
        };
        let signals = match (self.namespaces, landlock(6)) {
            (true, _) => (Enforced, spaces.clone()),
            (false, true) => (Enforced, version.clone()),
            (false, false) => missing("needs user namespaces or Landlock 6"),
        };
        let unix_sockets = match (self.scopes_unix_sockets(), self.seccomp) {
            (true, _) => (Enforced, format!("{spaces}, {version}")),
            (false, true) => (Enforced, "seccomp: none can be made".to_owned()),
            (false, false) => missing("needs seccomp, or user namespaces and Landlock 6"),
        };
        let more_ports = match self.asks_to_listen() {
            true => "",
            false => {
                "; one that has a port can listen on free ports as well, one that has none listens on no Unix socket either"
            }
        };
        let tcp = match self.limits_tcp() {
            true => (
                Partial,
                format!(
                    "{version}, seccomp: connects and listens on its ports alone, whatever the address{more_ports}; others of this machine reach what it listens on"
                ),
            ),
            false => missing("needs Landlock 4 and seccomp"),
        };
        let system_calls = match self.seccomp {
            true => (Enforced, "seccomp".to_owned()),
            false => missing("needs seccomp"),
        };
        let process_count = match (self.namespaces, Uid::current().is_root()) {
            (true, false) => (Enforced, "RLIMIT_NPROC in a user namespace".to_owned()),
            (true, true) => missing("the kernel does not count those of root: run the service as a user of its own"),
            (false, _) => missing("needs user namespaces"),
        };
        let memory = match self.none() {
            false => (Partial, "RLIMIT_DATA, for each process".to_owned()),
            true => missing("the sandbox is off"),
        };
        vec![
            of("files", true, files),
            of("metadata", true, metadata),
            of("processes", true, processes),
            of("signals", true, signals),
            of("unix_sockets", true, unix_sockets),
            of("system_calls", true, system_calls),
            of("tcp", false, tcp),
            of(
                "udp",
                false,
                missing("needs a network namespace, which would have no network"),
            ),
            of("memory", false, memory),
            of("process_count", false, process_count),
        ]
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn short(layers: &Layers) -> Vec<&'static str> {
        let enforced = layers.protections().into_iter();
        enforced
            .filter(|p| p.required && p.level < Level::Enforced)
            .map(|p| p.subject)
            .collect()
    }

    #[test]
    fn says_what_a_machine_lacks() {
        let all = Layers {
            namespaces: true,
            landlock: 7,
            seccomp: true,
            listen_by_init: true,
        };
        let tcp = |layers: &Layers| {
            let mut found = layers.protections().into_iter();
            found.find(|p| p.subject == "tcp").unwrap().by
        };
        assert!(!tcp(&all).contains("free ports"));
        let unasked = Layers {
            listen_by_init: false,
            ..all.clone()
        };
        assert!(tcp(&unasked).contains("free ports"));
        assert!(short(&all).is_empty());
        let old = Layers {
            landlock: 2,
            ..all.clone()
        };
        assert!(short(&old).is_empty());
        let unfiltered = Layers { seccomp: false, ..old };
        assert_eq!(short(&unfiltered), ["unix_sockets", "system_calls"]);
        let contained = Layers {
            namespaces: false,
            ..all
        };
        assert_eq!(short(&contained), ["metadata"]);
        let unfiltered = Layers {
            seccomp: false,
            ..contained
        };
        assert!(short(&unfiltered).contains(&"processes"));
        assert_eq!(short(&Layers::default()).len(), 6);
    }
}
