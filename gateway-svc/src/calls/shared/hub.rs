//! The clients that share sessions: how each comes to where they are received, and goes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    behind::Behind,
    places::{Joined, Places, Unheard},
    used::Used,
};
use crate::{
    calls::{ToolsChanged, listeners::Listeners},
    snapshot::Store,
    upstream::{Client, StreamBegun, Target, Upstreams},
    vend::Vendor,
};

/// How long a client with a session may be without a stream: one whose connection breaks opens another, and has subscribed all the same.
const AWAY: Duration = Duration::from_secs(60);
/// What one server is told at a time, and how long all of it may take.
pub(super) const AT_A_TIME: usize = 8;
const WITHIN: Duration = Duration::from_secs(60);

/// What is needed to receive sessions.
pub(in crate::calls) struct Hub {
    pub(super) upstreams: Upstreams,
    pub(super) listeners: Arc<Listeners>,
    pub(super) store: Arc<Store>,
    pub(super) vendor: Arc<Vendor>,
    pub(super) places: Arc<Places>,
    pub(super) behind: Behind,
    pub(super) used: Used,
    pub(super) tools_changed: ToolsChanged,
    pub(super) stop: CancellationToken,
    /// Until when clients may come back that do not listen.
    away: Mutex<HashMap<Client, Instant>>,
}

impl Hub {
    /// For what these listen to.
    pub(in crate::calls) fn new(
        upstreams: Upstreams,
        listeners: Arc<Listeners>,
        store: Arc<Store>,
        vendor: Arc<Vendor>,
        tools_changed: ToolsChanged,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let places: Arc<Places> = Arc::default();
        let opened = Arc::downgrade(&places);
        upstreams.when_shared(move |session| opened.upgrade()?.opened(session));
        Arc::new(Self {
            upstreams,
            listeners,
            store,
            vendor,
            places,
            behind: Behind::default(),
            used: Used::default(),
            tools_changed,
            stop,
            away: Mutex::default(),
        })
    }

    /// A client listens from now on, or may hear others than before. It is told what is said in those sessions that it has used before, and may hear.
    pub(in crate::calls) fn listens(self: &Arc<Self>, client: &Client) {
        let may_hear = |target: &Target| self.listeners.may_hear(client, target.installation());
        for target in self.places.targets(client) {
            if may_hear(&target) {
                self.places.wake(&target);
            } else {
                self.used.add(client, &target);
                let unheard = self.places.leave_one(client, target.installation());
                unheard.into_iter().for_each(|unheard| self.unsubscribe(unheard));
            }
        }
        for target in &*self.used.take(client) {
            if !may_hear(target) {
                self.used.add(client, target);
                continue;
            }
            let (this, client, target) = (Arc::clone(self), client.clone(), Arc::clone(target));
            self.upstreams
                .in_background(async move { drop(this.join(&client, &target, false).await) });
        }
    }

    /// A client hears from now on what is said where this target's sessions are. `is_called`: calls go to the target now. What they wait for.
    pub(super) async fn join(
        self: &Arc<Self>,
        client: &Client,
        target: &Arc<Target>,
        is_called: bool,
    ) -> Option<StreamBegun> {
        let Joined {
            begins,
            stream_begun: mut begun,
            unheard,
            is_behind,
        } = self.places.join(client, target, is_called);
        if let Some(succession) = begins {
            self.upstreams.in_background(Arc::clone(self).receive(succession));
        }
        if let Some(unheard) = unheard {
            self.unsubscribe(unheard);
        }
        // Discovery may have opened it, or a call of a client that does not listen.
        if is_behind && let Some(session) = self.upstreams.shared_session(target).await {
            begun = self.places.opened(session);
        }
        begun
    }

    /// A client listens no longer. It is called where none can begin to meanwhile.
    pub(in crate::calls) fn falls_silent(self: &Arc<Self>, client: &Client) {
        match client {
            Client::Stateless { .. } => self.rest(client),
            Client::Session(_) | Client::Caller(_) => self.may_return(client),
        }
    }

    /// A client has ended.
    pub(in crate::calls) fn end(self: &Arc<Self>, client: &Client) {
        self.used.take(client);
        self.leave(client);
    }

    /// What a client has subscribed to is forgotten, but not where it has been.
    fn rest(self: &Arc<Self>, client: &Client) {
        for target in self.places.targets(client) {
            self.used.add(client, &target);
        }
        self.leave(client);
    }

    fn leave(self: &Arc<Self>, client: &Client) {
        for unheard in self.places.leave(client) {
            self.unsubscribe(unheard);
        }
    }

    /// Forgets what a client has subscribed to unless it listens in time.
    pub(super) fn may_return(self: &Arc<Self>, client: &Client) {
        let until = Instant::now() + AWAY;
        if self.away().insert(client.clone(), until).is_some() {
            return;
        }
        let (this, client) = (Arc::clone(self), client.clone());
        self.upstreams.in_background(async move {
            let stop = this.stop.clone();
            let _ = stop.run_until_cancelled(this.waits(&client)).await;
        });
    }

    async fn waits(self: &Arc<Self>, client: &Client) {
        while let Some(until) = self.still_away(client) {
            sleep_until(until).await;
        }
        if !self.listeners.listens(client) {
            self.rest(client);
        }
    }

    /// `None`: its time is over, and is no longer counted.
    fn still_away(&self, client: &Client) -> Option<Instant> {
        let mut away = self.away();
        let until = away.get(client).copied().filter(|until| *until > Instant::now());
        if until.is_none() {
            away.remove(client);
        }
        until
    }

    fn away(&self) -> MutexGuard<'_, HashMap<Client, Instant>> {
        // Nothing panics between two changes that belong together.
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a server, in the background, that nobody has subscribed to these any more.
    pub(super) fn unsubscribe(self: &Arc<Self>, Unheard { session, uris }: Unheard) {
        let this = Arc::clone(self);
        self.upstreams.in_background(async move {
            let (this, session) = (&this, &session);
            let end = |uri: Box<str>| async move {
                let upstreams = &this.upstreams;
                upstreams
                    .change_subscription(session, "resources/unsubscribe", &uri)
                    .await;
                this.keep(&session.target, &uri).await;
            };
            let all = stream::iter(uris).for_each_concurrent(AT_A_TIME, end);
            // A server that takes longer tells of the rest until its session is over.
            let _ = timeout(WITHIN, all).await;
        });
    }

    /// Subscribes to a resource anew that somebody has subscribed to: the end of another's subscription may have overtaken that.
    pub(super) async fn keep(&self, target: &Target, uri: &str) {
        let subscribed = self.places.session_if(target, uri, true);
        if let Some(session) = subscribed {
            self.upstreams
                .change_subscription(&session, "resources/subscribe", uri)
                .await;
        }
    }
}
