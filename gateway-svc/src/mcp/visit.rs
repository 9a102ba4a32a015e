//! A caller at an endpoint, and the session of their request.

use std::{sync::Arc, time::Instant};

use axum::response::Response;
use http::{HeaderValue, StatusCode};
use service_kit::quota::{Exceeded, InFlight};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    caller_at::CallerAt,
    endpoint::Endpoint,
    head::PROTOCOL_VERSION,
    known::Known,
    rpc::{RpcError, SESSION_NOT_FOUND, TRANSPORT_ERROR},
    session::Session,
};
use crate::upstream::Target;

/// A request of a caller.
pub(super) struct Visit {
    pub(super) at: Arc<Endpoint>,
    /// When the head of the request arrived.
    pub(super) came: Instant,
    pub(super) who: Arc<CallerAt>,
    /// What is kept of the client.
    pub(super) known: Option<Arc<Known>>,
}

impl Visit {
    /// Whether the caller reaches the installation of this uid: what was for its server before is else not for it any more.
    pub(super) fn reaches(&self, installation: &str) -> bool {
        let (caller, consumer) = (&self.who.identified.caller, &self.who.consumer.name);
        self.at.mcp.calls.reaches(caller, consumer, installation)
    }

    /// The same, and its server is still the one of this target.
    pub(super) fn still_reaches(&self, target: &Target) -> bool {
        self.reaches(target.installation()) && !self.at.mcp.calls.is_elsewhere(target)
    }

    /// Waits for the caller's turn to parse this, where that takes long.
    pub(super) async fn turn(&self, text: &[u8]) -> Option<OwnedSemaphorePermit> {
        self.at.mcp.turns.take(text.len(), &self.who.identified.subject).await
    }

    /// Counts a message.
    pub(super) fn charge(&self) -> Result<(), Exceeded> {
        match &self.known {
            Some(known) => known.quota.request(),
            None => self.at.mcp.quotas.requests(&self.who.identified.charged_to, 1),
        }
    }

    /// Begins a call, which is in progress until the returned value is dropped.
    pub(super) fn begin_call(&self) -> Result<InFlight, Exceeded> {
        match &self.known {
            Some(known) => known.quota.call(),
            None => self.at.mcp.quotas.call(&self.who.identified.subject),
        }
    }

    /// The session that the request belongs to, or the answer where there is none; `id` is that of the request.
    pub(super) fn session(&self, id: Option<&str>) -> Result<Arc<Session>, Box<Response>> {
        let head = &self.at.head;
        // Before the session: from this answer a client of another revision learns which ones are supported.
        if !head.revision_has_sessions {
            let version = head.headers().get(PROTOCOL_VERSION);
            let version = version.map(HeaderValue::as_bytes).unwrap_or_default();
            let shown: String = String::from_utf8_lossy(version).chars().take(40).collect();
            let why = format!(
                "Bad Request: Unsupported protocol version: {shown} (supported versions: 2025-11-25, 2025-06-18, 2025-03-26)"
            );
            return Err(Box::new(
                RpcError::new(TRANSPORT_ERROR, why).respond(StatusCode::BAD_REQUEST, id),
            ));
        }
        if let Some(session) = self
            .known
            .as_ref()
            .and_then(|known| known.session(&self.at.mcp.sessions))
        {
            return Ok(session);
        }
        let Some(handle) = head.session() else {
            let why = "Bad Request: the header Mcp-Session-Id is missing; send initialize first";
            return Err(Box::new(
                RpcError::new(TRANSPORT_ERROR, why).respond(StatusCode::BAD_REQUEST, id),
            ));
        };
        let mcp = &self.at.mcp;
        mcp.sessions.of(handle, &self.who, mcp.clock.now()).ok_or_else(|| {
            let error = RpcError::new(SESSION_NOT_FOUND, "Session not found; send initialize again");
            Box::new(error.respond(StatusCode::NOT_FOUND, id))
        })
    }
}
