//! The peer of a connection, as the listener knows it. No header or metadata can change it.

use std::{fmt, net::SocketAddr};

/// One of the services, as a client of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Workload {
    /// registry-svc.
    Registry,
    /// credential-svc.
    Credential,
    /// orchestrator-svc.
    Orchestrator,
    /// gateway-svc.
    Gateway,
}

impl Workload {
    /// The name of the crate, such as `credential-svc`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry-svc",
            Self::Credential => "credential-svc",
            Self::Orchestrator => "orchestrator-svc",
            Self::Gateway => "gateway-svc",
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The peer of a connection. Every gRPC request has it in its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A client outside this process, over TCP.
    External(SocketAddr),
    /// A service of this process, over a pipe.
    Workload(Workload),
}

impl Peer {
    /// The workload; `None` for an external peer.
    pub const fn workload(self) -> Option<Workload> {
        match self {
            Self::Workload(workload) => Some(workload),
            Self::External(_) => None,
        }
    }
}
