//! The mechanisms of the sandbox, and what they protect.

use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

/// The mechanisms that this machine can sandbox a program with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// User, mount, process and IPC namespaces.
    pub namespaces: bool,
    /// The ABI version of Landlock (Linux, Documentation/userspace-api/landlock.rst); 0 if it is not available.
    pub landlock: u8,
    /// A system call filter.
    pub seccomp: bool,
    /// The init of the namespaces decides each call of listen(2); see [`crate::listening`].
    #[serde(default)]
    pub listen_by_init: bool,
}

/// The degree of a protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Not protected.
    None,
    /// Protected in part.
    Partial,
    /// Protected.
    Enforced,
}

/// Something that is protected from sandboxed programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// What is protected: one word, or several joined by `_`.
    pub subject: &'static str,
    /// The degree.
    pub level: Level,
    /// The mechanism, or what it would require. For people.
    pub by: String,
    /// Whether it is part of what `--sandbox required` requires.
    pub required: bool,
}

impl Layers {
    /// Whether programs are not sandboxed at all.
    pub fn none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a program can be allowed Unix sockets without reaching those of others: namespaces hide the ones with a path, Landlock the
    /// abstract ones.
    pub(crate) fn scopes_unix_sockets(&self) -> bool {
        self.namespaces && self.landlock >= 6
    }

    /// Whether TCP ports can be limited: the filter closes the ways to use a port that Landlock does not control.
    pub(crate) fn limits_tcp(&self) -> bool {
        self.seccomp && self.landlock >= 4
    }

    /// Whether the init decides calls of listen(2) where ports are limited.
    pub(crate) fn asks_to_listen(&self) -> bool {
        self.namespaces && self.listen_by_init && self.limits_tcp()
    }

    /// What these mechanisms protect.
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
            (false, false) => missing("requires user namespaces or Landlock"),
        };
        let metadata = match self.namespaces {
            true => (Enforced, spaces.clone()),
            false => missing("requires user namespaces"),
        };
        let processes = match (self.namespaces, landlock(1), self.seccomp) {
            (true, ..) => (Enforced, spaces.clone()),
            (false, true, true) => (Enforced, format!("{version}, seccomp")),
            (false, true, false) => (
                Partial,
                format!(
                    "{version}; a server can still set their limits and priority: preventing that requires user namespaces or seccomp"
                ),
            ),
            (false, false, _) => missing("requires user namespaces or Landlock"),
        };
        let signals = match (self.namespaces, landlock(6)) {
            (true, _) => (Enforced, spaces.clone()),
            (false, true) => (Enforced, version.clone()),
            (false, false) => missing("requires user namespaces or Landlock 6"),
        };
        let unix_sockets = match (self.scopes_unix_sockets(), self.seccomp) {
            (true, _) => (Enforced, format!("{spaces}, {version}")),
            (false, true) => (Enforced, "seccomp: a server can create none".to_owned()),
            (false, false) => missing("requires seccomp, or user namespaces and Landlock 6"),
        };
        let more_ports = match self.asks_to_listen() {
            true => "",
            false => {
                "; a server that has a port can listen on free ports as well, and one without a port cannot listen on Unix sockets"
            }
        };
        let tcp = match self.limits_tcp() {
            true => (
                Partial,
                format!(
                    "{version}, seccomp: a server connects to and listens on its own ports only, at any address{more_ports}; other processes of this machine can connect to it"
                ),
            ),
            false => missing("requires Landlock 4 and seccomp"),
        };
        let system_calls = match self.seccomp {
            true => (Enforced, "seccomp".to_owned()),
            false => missing("requires seccomp"),
        };
        let process_count = match (self.namespaces, Uid::current().is_root()) {
            (true, false) => (Enforced, "RLIMIT_NPROC in a user namespace".to_owned()),
            (true, true) => missing("the kernel does not count processes of root: run the service as another user"),
            (false, _) => missing("requires user namespaces"),
        };
        let memory = match self.none() {
            false => (Partial, "RLIMIT_DATA, per process".to_owned()),
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
                missing("requires a network namespace, in which a server would have no network"),
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
