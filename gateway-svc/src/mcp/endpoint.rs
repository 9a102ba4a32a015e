//! An MCP endpoint as a client asks for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use http::request::Parts;

use super::{Mcp, head::Head, known::Known};
use crate::domain::ConsumerRef;

/// An MCP endpoint, for requests with one head.
pub(super) struct Endpoint {
    pub(super) mcp: Arc<Mcp>,
    /// Whether there is one of this name is not known yet.
    pub(super) name: ConsumerRef,
    pub(super) head: Head,
    /// Who sends this head, as long as this thread knows them.
    client: Mutex<Weak<Known>>,
}

impl Endpoint {
    /// That of this gateway or agent.
    pub(super) fn new(mcp: &Arc<Mcp>, name: ConsumerRef, head: Arc<Parts>) -> Self {
        Self {
            mcp: Arc::clone(mcp),
            name,
            head: Head::new(head, &mcp.hosts),
            client: Mutex::default(),
        }
    }

    /// The client, if this thread knows it; else perhaps what it knew of it.
    pub(super) fn known(&self) -> Result<Arc<Known>, Option<Arc<Known>>> {
        let mcp = &self.mcp;
        let snapshot = mcp.store.peek().map_err(|_| None)?;
        let now = mcp.clock.now();
        let is_valid = |known: &Arc<Known>| known.is_of_snapshot(&snapshot) && known.is_valid(now);
        let same = self.client().upgrade().filter(is_valid);
        if let Some(known) = same {
            return Ok(known);
        }
        let found = mcp
            .known
            .find(self.head.headers(), &self.name, &snapshot, now)
            .ok_or(None)?;
        if !found.is_valid(now) {
            return Err(Some(found));
        }
        *self.client() = Arc::downgrade(&found);
        Ok(found)
    }

    /// This thread knows it from now on.
    pub(super) fn keep(&self, known: &Arc<Known>) {
        self.mcp.known.keep(self.head.headers(), known);
        *self.client() = Arc::downgrade(known);
    }

    fn client(&self) -> MutexGuard<'_, Weak<Known>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
