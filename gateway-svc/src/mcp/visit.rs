//! A caller at an endpoint, and the session of their request.

use std::{sync::Arc, time::Instant};

use axum::response::Response;
use http::{HeaderMap, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Mcp,
    known::Known,
    rpc::{RpcError, SESSION_NOT_FOUND, TRANSPORT_ERROR},
    session::{SESSION_ID, Session},
};
use crate::{
    domain::Consumer,
    identity::Identified,
    upstream::{Revision, Target},
};

pub(super) const PROTOCOL_VERSION: &str = "mcp-protocol-version";

/// A caller of a gateway or an agent.
pub(super) struct Visit {
    pub(super) mcp: Arc<Mcp>,
    /// When the head of the request arrived.
    pub(super) came: Instant,
    pub(super) identified: Identified,
    pub(super) consumer: Arc<Consumer>,
    pub(super) headers: HeaderMap,
    /// What is kept of the client.
    pub(super) known: Option<Arc<Known>>,
}

impl Visit {
    /// Whether the caller reaches the installation of this uid: what was for its server before is else not for it any more.
    pub(super) fn reaches(&self, installation: &str) -> bool {
        let (caller, consumer) = (&self.identified.caller, &self.consumer.name);
        self.mcp.calls.reaches(caller, consumer, installation)
    }

    /// The same, and its server is still the one of this target.
    pub(super) fn still_reaches(&self, target: &Target) -> bool {
        self.reaches(target.installation()) && !self.mcp.calls.is_elsewhere(target)
    }

    /// Waits for the caller's turn to parse this, where that takes long.
    pub(super) async fn turn(&self, text: &[u8]) -> Option<OwnedSemaphorePermit> {
        self.mcp.turns.take(text.len(), &self.identified.subject).await
    }

    /// The session that the request belongs to, or the answer where there is none; `id` is that of the request.
    pub(super) fn session(&self, id: Option<&str>) -> Result<Session, Box<Response>> {
        // Before the session: from this answer a client of another revision learns which ones are supported.
        if let Some(version) = self.headers.get(PROTOCOL_VERSION)
            && version.to_str().ok().and_then(Revision::parse).is_none()
        {
            let shown: String = String::from_utf8_lossy(version.as_bytes()).chars().take(40).collect();
            let why = format!(
                "Bad Request: Unsupported protocol version: {shown} (supported versions: 2025-11-25, 2025-06-18, 2025-03-26)"
            );
            return Err(Box::new(
                RpcError::new(TRANSPORT_ERROR, why).respond(StatusCode::BAD_REQUEST, id),
            ));
        }
        let Some(handle) = self.headers.get(SESSION_ID) else {
            let why = "Bad Request: the header Mcp-Session-Id is missing; send initialize first";
            return Err(Box::new(
                RpcError::new(TRANSPORT_ERROR, why).respond(StatusCode::BAD_REQUEST, id),
            ));
        };
        let known = self.known.as_ref().and_then(|known| known.session.clone());
        if let Some(session) = known.filter(|session| !self.mcp.sessions.has_ended(session)) {
            return Ok(session);
        }
        let subject = &self.identified.subject;
        let now = self.mcp.clock.now();
        let open = |handle| self.mcp.sessions.open(handle, subject, &self.consumer.name, now);
        handle.to_str().ok().and_then(open).ok_or_else(|| {
            let error = RpcError::new(SESSION_NOT_FOUND, "Session not found; send initialize again");
            Box::new(error.respond(StatusCode::NOT_FOUND, id))
        })
    }
}
