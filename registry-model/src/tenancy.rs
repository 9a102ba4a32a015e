//! Whether the installations of an entry share one process of its server.

use contracts::registry::{
    EntryRevision, SelfHostedServer, Tenancy, entry_revision::Server, self_hosted_server::Transport,
};

/// Whether all installations that run this share a process. A tenancy that this version does not know is not shared; see
/// [`crate::cases`].
pub fn is_shared(revision: &EntryRevision) -> bool {
    matches!(&revision.server, Some(Server::SelfHosted(server)) if shares(server))
}

/// The same of a server.
pub fn shares(server: &SelfHostedServer) -> bool {
    matches!(&server.transport, Some(Transport::StreamableHttp(http)) if http.tenancy() == Tenancy::Shared)
}
