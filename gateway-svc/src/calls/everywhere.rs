//! What a client says to all servers that it has a session with.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};

use super::{Calls, Visitor, targets};
use crate::{
    domain::{CallerToken, Running},
    upstream::{OpenSession, Scope, Target, Whose},
    vend::Vended,
};

/// How many upstreams are told at a time.
pub(super) const AT_A_TIME: usize = 8;

impl Calls {
    /// Sends a notification to every server that this client has a session of its own with.
    pub(crate) async fn tell_all(&self, visitor: &Visitor<'_>, message: &Bytes) {
        let tell = |target: Arc<Target>| async move { self.upstreams.tell(&target, message.clone()).await };
        self.own_targets(visitor).for_each_concurrent(AT_A_TIME, tell).await;
    }

    /// Sets the level of the log messages that this client gets, at every server that it has a session of its own with, now or later.
    pub(crate) async fn set_level(&self, visitor: &Visitor<'_>, level: &str) {
        self.upstreams.remember_level(&visitor.client, level);
        let set = |target: Arc<Target>| async move { self.upstreams.set_level(&target, level).await };
        self.own_targets(visitor).for_each_concurrent(AT_A_TIME, set).await;
    }

    /// The same for the sessions that this client will have; those that it has stay as they are.
    pub(crate) fn remember_level(&self, visitor: &Visitor<'_>, level: &str) {
        self.upstreams.remember_level(&visitor.client, level);
    }

    /// The servers that this client has a session of its own with, and reaches.
    fn own_targets<'a>(&'a self, visitor: &'a Visitor<'_>) -> impl futures::Stream<Item = Arc<Target>> + 'a {
        let Visitor { caller, consumer, .. } = *visitor;
        let mut open = self.upstreams.installations_of(&visitor.client);
        open.retain(|uid| self.reaches(caller, consumer, uid));
        stream::iter(open).filter_map(move |uid| async move {
            let (running, vended) = self.vended(&uid, visitor.caller.token.as_deref()).await?;
            let scope = Scope::Client(visitor.client.clone());
            let headers = vended.headers.clone();
            let target = targets::target(&running, vended.generations, visitor.revision, headers, scope);
            let whose = vended.caller.map(|_| Whose {
                subject: Arc::clone(visitor.subject),
                headers: None,
            });
            Some(Arc::new(target.ok()?.sent_by(whose)))
        })
    }

    /// What the installation of this uid runs at this moment, and the headers for it. `None`: it has gone, or there are none.
    pub(super) async fn vended(&self, uid: &str, token: Option<&CallerToken>) -> Option<(Running, Arc<Vended>)> {
        let running = {
            let snapshot = self.store.load().ok()?;
            snapshot.running(snapshot.installation(uid)?)?
        };
        let vended = self.vendor.headers(&running, token, None).await.ok()?;
        Some((running, vended))
    }

    /// The headers for requests in this session; `None`: there are none at this moment, or they are for another server by now.
    pub(super) async fn vended_for(&self, session: &OpenSession, token: Option<&CallerToken>) -> Option<Arc<Vended>> {
        let (running, vended) = self.vended(session.target.installation(), token).await?;
        session.target.is_at(&targets::endpoint(&running)?).then_some(vended)
    }
}
