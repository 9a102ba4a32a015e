//! Opens and ends the sessions that one client alone uses.
//!
//! For each of them the orchestrator runs a process, until the session is ended or has been idle for long.

use std::{panic::resume_unwind, sync::Arc};

use super::{
    error::UpstreamError,
    session::Session,
    target::{Client, SessionKey, Target},
    upstreams::Upstreams,
};

impl Upstreams {
    /// The session of this client for this target, initialized by the first call that requires it; the others wait for it.
    pub(super) async fn own_session(
        &self,
        client: &Client,
        target: &Arc<Target>,
    ) -> Result<Arc<Session>, UpstreamError> {
        let (this, client, target) = (self.clone(), client.clone(), Arc::clone(target));
        // In a task of its own: a call that is given up meanwhile would leave a session which nobody knows, and its process.
        let opened = tokio::spawn(async move {
            let own = &this.inner.by_client;
            let initialize = Box::pin(async {
                if own.has_ended(&client) {
                    return Err(UpstreamError::Cancelled);
                }
                let session = this.initialize(&target).await?;
                if own.add(&client, &target.key, &session) {
                    return Ok(session);
                }
                this.end(&target.key, &session).await;
                Err(UpstreamError::Cancelled)
            });
            let sessions = &this.inner.sessions;
            sessions.try_get_with_by_ref(&target.key, initialize).await
        });
        match opened.await {
            Ok(opened) => opened.map_err(|error| (*error).clone()),
            Err(failed) if failed.is_panic() => resume_unwind(failed.into_panic()),
            // The runtime stops.
            Err(_) => Err(UpstreamError::Cancelled),
        }
    }

    /// Ends the sessions that are this client's alone, in the background, and any that a call of it still opens.
    pub(crate) fn end_client(&self, client: Client) {
        let own = self.inner.by_client.end(client);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if own.is_empty() {
            return;
        }
        let this = self.clone();
        runtime.spawn(async move {
            for (key, session) in own {
                this.inner.sessions.invalidate(&key).await;
                this.end(&key, &session).await;
            }
        });
    }

    /// Ends a session where the orchestrator runs its server.
    pub(super) async fn end(&self, key: &SessionKey, session: &Session) {
        if key.endpoint.hosted {
            self.delete(&key.endpoint, session).await;
        }
    }
}
