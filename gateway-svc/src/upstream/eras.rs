//! Which era of MCP each server speaks: asked once, and again when the answer proves wrong.

use std::sync::Arc;

use super::{
    client::Era, error::UpstreamError, modern::discover::Found, session::Session, target::Target, upstreams::Upstreams,
};

impl Upstreams {
    /// Whether the server is known to have no sessions.
    pub(crate) fn has_no_sessions(&self, target: &Target) -> bool {
        self.inner.eras.get(&target.key.endpoint) == Some(Era::Modern)
    }

    /// Opens a session with a server, or finds out that it requires none.
    pub(super) async fn open(&self, target: &Arc<Target>) -> Result<Arc<Session>, UpstreamError> {
        let (eras, endpoint) = (&self.inner.eras, &target.key.endpoint);
        let known = eras.get(endpoint);
        if known == Some(Era::Legacy) {
            match self.initialize(target).await {
                // It may have become modern.
                Err(UpstreamError::Invalid(_)) => eras.invalidate(endpoint),
                opened => return opened,
            }
        }
        let within = match known {
            Some(Era::Modern) => self.limits().initialize,
            _ => self.limits().discover,
        };
        let failed = match self.discover(target, within).await? {
            Found::Modern(session) => {
                eras.insert(endpoint.clone(), Era::Modern);
                return Ok(session);
            }
            Found::Legacy => None,
            Found::Unknown(error) => Some(error),
        };
        eras.invalidate(endpoint);
        match (self.initialize(target).await, failed) {
            // It was modern, and what it said to that question tells more than that it refuses this one.
            (Err(UpstreamError::Invalid(_)), Some(failed)) if known == Some(Era::Modern) => Err(failed),
            // A modern server that is only slow refuses it.
            (Err(refused @ UpstreamError::Invalid(_)), Some(UpstreamError::Timeout { .. })) => {
                match self.discover(target, self.limits().initialize).await? {
                    Found::Modern(session) => {
                        eras.insert(endpoint.clone(), Era::Modern);
                        Ok(session)
                    }
                    Found::Legacy | Found::Unknown(_) => Err(refused),
                }
            }
            (opened, _) => {
                if opened.is_ok() {
                    eras.insert(endpoint.clone(), Era::Legacy);
                }
                opened
            }
        }
    }
}
