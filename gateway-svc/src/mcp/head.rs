//! What the head of a request says.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, request::Parts};
use service_kit::Hosts;

use super::{
    media::{accepts, content_is_json},
    session::SESSION_ID,
};
use crate::upstream::{Revision, modern_names};

/// The field that names the revision of MCP.
pub(super) const PROTOCOL_VERSION: &str = "mcp-protocol-version";

/// The head of a request, and what is looked for in it each time, found once.
#[derive(Debug)]
pub(super) struct Head {
    parts: Arc<Parts>,
    /// Whether its host and origin may use the endpoint.
    pub(super) is_permitted: bool,
    /// Whether its body is JSON.
    pub(super) is_json: bool,
    /// Whether its client takes JSON.
    pub(super) takes_json: bool,
    /// Whether its client takes a stream of events.
    pub(super) takes_events: bool,
    /// Whether it names 2026-07-28 as its revision.
    pub(super) is_modern: bool,
    /// Whether the revision that it names, if any, is one with sessions.
    pub(super) revision_has_sessions: bool,
}

impl Head {
    pub(super) fn new(parts: Arc<Parts>, hosts: &Hosts) -> Self {
        let headers = &parts.headers;
        let named = headers.get(PROTOCOL_VERSION);
        let has_sessions = |named: &HeaderValue| named.to_str().ok().and_then(Revision::parse).is_some();
        Self {
            is_permitted: hosts.permits(&parts.uri, headers),
            is_json: content_is_json(headers),
            takes_json: accepts(headers, "application/json"),
            takes_events: accepts(headers, "text/event-stream"),
            is_modern: headers
                .get_all(PROTOCOL_VERSION)
                .iter()
                .any(|named| named == modern_names::REVISION),
            revision_has_sessions: named.is_none_or(has_sessions),
            parts,
        }
    }

    pub(super) fn method(&self) -> &Method {
        &self.parts.method
    }

    /// May lack `Content-Length`.
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The handle of the session that the request belongs to.
    pub(super) fn session(&self) -> Option<&HeaderValue> {
        self.headers().get(SESSION_ID)
    }
}
