//! Opens and ends the sessions that one client alone uses.
//!
//! A stdio server that the orchestrator runs may have a process for each of them, until the session is ended or has been idle for long.

use std::{collections::BTreeSet, panic::resume_unwind, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::HeaderMap;
use tokio::time::timeout;

use super::{
    client::{Client, Era},
    error::UpstreamError,
    open_session::OpenSession,
    session::Session,
    stream_begun::BEGUN,
    target::{SessionKey, Target},
    upstreams::Upstreams,
};

/// Fewer than the messages that a session takes beside its calls: others are sent meanwhile.
const SUBSCRIBED_AT_A_TIME: usize = 6;

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
                let session = this.open(&target).await?;
                if let Some(level) = this.inner.levels.get(&client) {
                    this.set_level_in(&target, &session, &level).await;
                }
                this.subscribe_in(&client, &target, &session).await;
                // What is sent in it from now on is the client's, and as a rule somebody waits for the answer.
                if let Some(replaced) = own.add(&client, &target.in_foreground(), &session) {
                    replaced.into_iter().for_each(|replaced| this.retire(replaced));
                    if this.is_listened_to(&client) && session.era == Era::Legacy {
                        // What the server says from its first answer on, the client learns.
                        session.stream_begun.wait().await;
                    }
                    return Ok(session);
                }
                this.end_session(&target.key, target.headers.clone(), &session).await;
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

    /// Opens another session in the place of one that its server has lost. No caller waits for it; a call that comes meanwhile joins.
    pub(crate) async fn reopen(&self, lost: &OpenSession, target: &Arc<Target>) -> Result<(), UpstreamError> {
        self.forget(&lost.target, &lost.session).await;
        match target.client() {
            Some(client) => self.own_session(client, &target.in_background()).await.map(drop),
            None => Ok(()),
        }
    }

    /// The installations that this client has sessions of its own with, by their uids.
    pub(crate) fn installations_of(&self, client: &Client) -> BTreeSet<Arc<str>> {
        self.inner.by_client.installations(client)
    }

    /// Sends a notification in the session of this target, if there is one.
    pub(crate) async fn tell(&self, target: &Arc<Target>, message: Bytes) {
        if let Some(session) = self.inner.sessions.get(&target.key).await {
            self.send(target, &session, message).await;
        }
    }

    /// Remembers the level of the log messages that this client gets, for the sessions that it will have.
    pub(crate) fn remember_level(&self, client: &Client, level: &str) {
        self.inner.levels.insert(client.clone(), level.into());
    }

    /// Sets the level of log messages in the session of this target, if there is one and the server has log messages.
    pub(crate) async fn set_level(&self, target: &Arc<Target>, level: &str) {
        let Some(session) = self.inner.sessions.get(&target.key).await else {
            return;
        };
        self.set_level_in(target, &session, level).await;
    }

    pub(super) async fn set_level_in(&self, target: &Target, session: &Session, level: &str) {
        if session.offers.logging {
            let params = format!(r#"{{"level":{level}}}"#);
            let request = self.request("logging/setLevel", params.as_bytes(), &[]);
            self.send(target, session, request.body).await;
        }
    }

    /// Whether somebody listens for this client, who learns that it may have another session.
    pub(super) fn is_listened_to(&self, client: &Client) -> bool {
        self.inner.opened.get().is_some_and(|opened| opened(client))
    }

    /// Subscribes to what the client has subscribed to in the session before. Where that takes long, it goes on beside the client's calls.
    async fn subscribe_in(&self, client: &Client, target: &Arc<Target>, session: &Arc<Session>) {
        let uris = self.inner.subscribed.of_lost(client, target.installation());
        if session.era == Era::Modern || uris.is_empty() {
            return;
        }
        let (this, client, target, session) = (self.clone(), client.clone(), Arc::clone(target), Arc::clone(session));
        let subscribing = self.inner.runtime.spawn(async move {
            let subscribe = |uri: Box<str>| {
                let (this, client, target, session) = (&this, &client, &target, &session);
                async move { this.settle(client, &uri, target, session).await }
            };
            stream::iter(uris)
                .for_each_concurrent(SUBSCRIBED_AT_A_TIME, subscribe)
                .await;
        });
        let _ = timeout(BEGUN, subscribing).await;
    }

    /// Ends a session that another has taken the place of, once its calls have been answered.
    fn retire(&self, replaced: OpenSession) {
        let this = self.clone();
        self.in_background(async move {
            let OpenSession { target, session } = &replaced;
            this.forget(target, session).await;
            if session.id.is_some() {
                let all = u32::try_from(this.limits().concurrency).unwrap_or(u32::MAX);
                let _ = timeout(this.limits().total, session.permits.acquire_many(all)).await;
                this.end_session(&target.key, target.headers.clone(), session).await;
            }
        });
    }

    /// Takes the sessions out that are this client's alone, and those that a call of it still opens are ended at once.
    pub(crate) fn end_client(&self, client: Client) -> Vec<OpenSession> {
        let ended = self.inner.by_client.end(client.clone());
        for key in ended.keys() {
            self.inner.subscribed.take(&client, &key.installation);
        }
        ended.into_values().collect()
    }

    /// Tells a server that a session is over. `headers` are those of calls to it.
    pub(crate) async fn end(&self, own: OpenSession, headers: HeaderMap) {
        own.session.set_forgotten();
        self.inner.sessions.invalidate(own.key()).await;
        self.end_session(own.key(), headers, &own.session).await;
    }

    pub(super) async fn end_session(&self, key: &SessionKey, headers: HeaderMap, session: &Session) {
        if session.id.is_some() {
            self.delete(&key.endpoint, headers, session).await;
        }
    }
}
