//! Sessions that several clients share.

use std::sync::Arc;

use super::{
    client::Era, error::UpstreamError, open_session::OpenSession, post::Begun, session::Session, standing::Standing,
    stream_begun::StreamBegun, subscribed::Own, target::Target, upstreams::Upstreams,
};

/// The resources that a modern server tells of, for all who share its session. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedTopics(Arc<Own>);

impl SharedTopics {
    /// Somebody has subscribed to this resource.
    pub(crate) fn add(&self, uri: &str) {
        self.0.change(|uris| uris.insert(uri.into()));
    }

    /// Nobody has any more.
    pub(crate) fn remove(&self, uri: &str) {
        self.0.change(|uris| uris.remove(uri));
    }

    /// Waits until the server has acknowledged what is subscribed to at this moment.
    pub(crate) async fn acknowledged(&self) {
        self.0.acknowledged().await;
    }
}

impl Upstreams {
    /// Has this called with each session that several clients share, once it has been opened; it returns what its first calls wait for. Only the
    /// first counts.
    pub(crate) fn when_shared(&self, opened: impl Fn(OpenSession) -> Option<StreamBegun> + Send + Sync + 'static) {
        let _ = self.inner.shared_opened.set(Box::new(opened));
    }

    /// What the server says from its first answer on, those who share the session learn.
    pub(super) async fn has_opened(&self, target: &Arc<Target>, session: &Arc<Session>) {
        let opened = OpenSession {
            target: target.in_foreground(),
            session: Arc::clone(session),
        };
        let begun = self.inner.shared_opened.get().and_then(|told| told(opened));
        if let Some(begun) = begun {
            begun.wait().await;
        }
    }

    /// The session for this target, if there is one.
    pub(crate) async fn shared_session(&self, target: &Arc<Target>) -> Option<OpenSession> {
        let session = self.inner.sessions.get(&target.key).await?;
        Some(OpenSession {
            target: Arc::clone(target),
            session,
        })
    }

    /// The session for this target, where the stream of this one has ended: another, if its server has lost it, or the target is of another.
    pub(crate) async fn session_after(
        &self,
        last: &OpenSession,
        target: &Arc<Target>,
    ) -> Result<OpenSession, UpstreamError> {
        let background = target.in_background();
        if *last.key() == target.key && self.has_lost(&background, &last.session).await? {
            self.forget(target, &last.session).await;
        }
        Ok(OpenSession {
            session: self.session(&background).await?,
            target: Arc::clone(target),
        })
    }

    async fn has_lost(&self, target: &Target, session: &Session) -> Result<bool, UpstreamError> {
        Ok(session.id.is_some()
            && matches!(
                self.ping(target, session).await?,
                Some(Begun::SessionLost | Begun::SessionDoubted(..))
            ))
    }

    /// As [`Upstreams::stand`], for what all have subscribed to who share the session.
    pub(crate) async fn stand_for_all(
        &self,
        open: &OpenSession,
        target: &Arc<Target>,
        topics: &SharedTopics,
    ) -> Result<Option<Standing>, UpstreamError> {
        match open.session.era {
            Era::Legacy => self.stand(open, target).await,
            Era::Modern => self.stand_for(target, &open.session, Arc::clone(&topics.0)).await,
        }
    }

    /// Subscribes to a resource, or ends that, for no caller; what the server answers makes no difference.
    pub(crate) async fn change_subscription(&self, open: &OpenSession, method: &str, uri: &str) {
        let target = open.target.in_background();
        self.about_resource(method, uri, &target, &open.session).await;
    }
}
