//! Who is at the other end of a connection, as the listener knows it; no header or metadata can change that.

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
    /// `credential-svc`, for example.
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

/// The other end of a connection. Every gRPC request carries one in its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Somebody outside, over TCP.
    External(SocketAddr),
    /// A workload, over a pipe of this process.
    Workload(Workload),
}

impl Peer {
    /// The workload, if it is one.
    pub const fn workload(self) -> Option<Workload> {
        match self {
            Self::Workload(workload) => Some(workload),
            Self::External(_) => None,
        }
    }
}
