//! What servers say outside the answers to calls, for clients that listen.

use std::sync::Arc;

use tokio::{
    select,
    time::{Instant, interval, sleep},
};

use super::{
    Calls,
    delays::{LONGEST, STOOD, TOUCHED, delays},
    listeners::{Ear, Listener, MayHear},
    mailbox::Happening,
    targets,
};
use crate::upstream::{Client, Heard, OpenSession, Target, UpstreamError};

impl Calls {
    /// Begins to listen for this client, to what it may hear. One without a session has subscribed to something for as long as it listens.
    pub(crate) fn listen(self: &Arc<Self>, client: &Client, may_hear: MayHear) -> Listener {
        let listener = self.listeners.join(client, may_hear);
        let calls = Arc::downgrade(self);
        listener.when_last(move |client| {
            let Some(calls) = calls.upgrade() else { return };
            calls.shared.falls_silent(client);
            if matches!(client, Client::Stateless { .. }) {
                calls.unsubscribe(client.clone());
            }
        })
    }

    /// The next that a server says in a session of the client that listens; `None`: it reads too slowly, or the registry has been away for so long that
    /// nobody knows what it may hear, and it listens no longer. Nothing is lost if this is dropped before it is ready.
    pub(crate) async fn hear(self: &Arc<Self>, listener: &mut Listener) -> Option<Heard> {
        loop {
            match listener.next().await? {
                Happening::Heard(heard) => return Some(heard),
                Happening::Look => {
                    self.store.load().ok()?;
                    self.shared.listens(listener.client());
                    for (ear, session) in self.ears(listener.client()) {
                        tokio::spawn(receive(Arc::clone(self), ear, session));
                    }
                }
            }
        }
    }

    /// The right to receive those sessions of a client that nobody receives, and that somebody may hear or calls require. Those that nobody may hear
    /// any more are received no longer.
    pub(super) fn ears(&self, client: &Client) -> Vec<(Ear, OpenSession)> {
        let sessions = self.upstreams.sessions_of(client).into_iter();
        let sessions = sessions.map(|session| {
            let may_be_heard = self.may_be_heard(client, &session);
            (session, may_be_heard)
        });
        self.listeners.ears(client, sessions.collect())
    }

    /// Whether one who listens for this client may hear what is said in a session: it reaches the installation, whose server is still this one.
    pub(super) fn may_be_heard(&self, client: &Client, session: &OpenSession) -> bool {
        let target = &session.target;
        self.listeners.may_hear(client, target.installation()) && !targets::is_elsewhere(&self.store, target)
    }

    /// Whether the installation's server is another than this one by now.
    pub(crate) fn is_elsewhere(&self, target: &Target) -> bool {
        targets::is_elsewhere(&self.store, target)
    }

    /// What a stream of this session is opened with at this moment; `None`: nobody is to hear it now, or there is no credential.
    async fn target_now(&self, client: &Client, session: &OpenSession) -> Option<Arc<Target>> {
        let has_calls = || {
            let calls = self.listeners.calls(client, session.key(), |calls| !calls.is_idle());
            calls.unwrap_or_default()
        };
        if !self.may_be_heard(client, session) && !has_calls() {
            return None;
        }
        if session.target.is_callers_own() {
            // Only their next call knows what is newer.
            return (!targets::is_elsewhere(&self.store, &session.target)).then(|| Arc::clone(&session.target));
        }
        let vended = self.vended_for(session, None).await?;
        Some(Arc::new(session.target.with_headers(&vended.headers)))
    }
}

/// Receives a session until nobody listens, or its server says no more.
pub(super) async fn receive(calls: Arc<Calls>, ear: Ear, session: OpenSession) {
    let touch = async {
        let mut due = interval(TOUCHED);
        loop {
            due.tick().await;
            calls.upstreams.touch(&session.target).await;
        }
    };
    select! {
        () = ear.over() => {}
        () = calls.stop.cancelled() => {}
        () = touch => {}
        () = receive_on(&calls, &ear, &session) => {}
    }
}

async fn receive_on(calls: &Arc<Calls>, ear: &Ear, session: &OpenSession) {
    let (target, mut delays, mut renewed) = (&session.target, delays(), false);
    let (mut is_another, mut is_first) = (ear.has_heard_another(), true);
    loop {
        let stood = if std::mem::take(&mut is_first) {
            // As a rule, the session has just been opened.
            Some(calls.upstreams.stand(session, target).await)
        } else {
            let stand = || async {
                let target = calls.target_now(ear.client(), session).await?;
                Some(calls.upstreams.stand(session, &target).await)
            };
            calls.upstreams.once_reachable(target, stand).await
        };
        let Some(stood) = stood else {
            sleep(delays.next().unwrap_or(LONGEST)).await;
            continue;
        };
        let since = Instant::now();
        if std::mem::take(&mut is_another) {
            // In the session before, the client would have heard what has changed since.
            calls.own.changed(ear.client(), session.target.installation());
            for list in Heard::of_another(session) {
                ear.pass_on(list).await;
            }
        }
        match stood {
            Ok(None) if session.is_lost() => return calls.reopen(ear.client(), session),
            Ok(None) => return,
            Ok(Some(mut stream)) => {
                renewed = false;
                while let Ok(heard) = stream.next().await {
                    if targets::is_elsewhere(&calls.store, &session.target) {
                        // A look follows, since the registry has told of that.
                        return heard.for_nobody();
                    }
                    if let Heard::ToolsChanged(installation) = &heard {
                        // The registry is told, too: for others, it may be the same.
                        (calls.tools_changed)(installation);
                        calls.own.changed(ear.client(), installation);
                    }
                    ear.pass_on(heard).await;
                }
            }
            // What the session was opened with has expired.
            Err(UpstreamError::Unauthorized) if !std::mem::replace(&mut renewed, true) => continue,
            Err(UpstreamError::Unauthorized | UpstreamError::InsufficientScope { .. }) => return,
            Err(error) => {
                tracing::debug!(installation.uid = %target.installation(), error = %error, "a server's stream cannot be opened");
                if session.target.is_hosted() && calls.has_moved(session).await {
                    session.lose();
                    return calls.reopen(ear.client(), session);
                }
            }
        }
        if since.elapsed() > STOOD {
            delays = self::delays();
        }
        sleep(delays.next().unwrap_or(LONGEST)).await;
    }
}
