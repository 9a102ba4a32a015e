//! How the upstream is spoken to.

use contracts::registry::{Entry, entry::Server, self_hosted_server::Transport};

/// Why headers cannot be sent.
pub(super) const REQUIRES_HTTP: &str =
    "requires a server that is called over HTTP: a remote one, or a self-hosted one with streamable_http";

/// Whether the upstream is spoken to over HTTP, so that headers reach it. Not so for a server behind standard input.
pub(super) fn takes_headers(entry: &Entry) -> bool {
    match &entry.server {
        Some(Server::Remote(_)) | None => true,
        Some(Server::SelfHosted(server)) => matches!(server.transport, Some(Transport::StreamableHttp(_))),
    }
}
