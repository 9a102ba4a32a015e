//! Sessions that several clients share.

use std::sync::Arc;

use super::{client::Era, open_session::OpenSession, target::Target, upstreams::Upstreams};

impl Upstreams {
    /// The session for this target, if there is one.
    pub(crate) async fn shared_session(&self, target: &Arc<Target>) -> Option<OpenSession> {
        let session = self.inner.sessions.get(&target.key).await?;
        Some(OpenSession {
            target: Arc::clone(target),
            session,
        })
    }

    /// Subscribes to a resource in the session of this target, if there is one, or ends that; what the server answers is not waited for.
    pub(crate) async fn change_subscription(&self, target: &Arc<Target>, method: &str, uri: &str) {
        if let Some(session) = self.inner.sessions.get(&target.key).await
            && session.era == Era::Legacy
        {
            self.about_resource(method, uri, target, &session).await;
        }
    }
}
