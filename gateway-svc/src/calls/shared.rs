//! Sessions that several clients share: what their servers say outside the answers to calls.
//!
//! Each is received once for all who listen. That a list has changed is for all of them, that a resource has changed for those who have subscribed to
//! it. Nothing else is: it may be about another client's call.

mod clients;
mod used;

use std::{borrow::Cow, sync::Arc};

use futures::future::join_all;
use tokio::{
    select,
    sync::watch,
    time::{Instant, interval_at, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

pub(super) use clients::SharedSessions;
pub(super) use used::Used;

use super::{
    ToolsChanged,
    call::{Call, To},
    delays::{LONGEST, TOUCHED, delays},
    listeners::Listeners,
};
use crate::{
    json,
    upstream::{BEGUN, Client, Heard, LONGEST_URI, OpenSession, TOO_MANY_SUBSCRIBED, Target, URI_TOO_LONG, Upstreams},
};

/// What a request for a resource's changes comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Subscription {
    /// The server is to be asked.
    Ask,
    /// Others are still told of it: the server must not be asked.
    StaysForOthers,
    /// With this error.
    Refused(&'static str),
}

/// What is needed to receive a session.
#[derive(Clone)]
pub(super) struct Hub {
    pub(super) upstreams: Upstreams,
    pub(super) listeners: Arc<Listeners>,
    pub(super) sessions: Arc<SharedSessions>,
    pub(super) used: Used,
    pub(super) tools_changed: ToolsChanged,
    pub(super) stop: CancellationToken,
}

impl Hub {
    /// What a client's request comes to that is to go to a session that others share.
    pub(super) fn before(&self, target: &Target, call: &Call<'_>) -> Subscription {
        let client = &call.visitor.client;
        match changed(call) {
            Some((true, uri)) if uri.len() > LONGEST_URI => Subscription::Refused(URI_TOO_LONG),
            Some((true, uri)) if self.sessions.is_full(client, target.key(), &uri) => {
                Subscription::Refused(TOO_MANY_SUBSCRIBED)
            }
            Some((false, uri)) if self.sessions.unsubscribe(client, target.key(), &uri) => Subscription::StaysForOthers,
            _ => Subscription::Ask,
        }
    }

    /// Such a request is being answered: if its client listens, it is told from now on what the server says.
    pub(super) async fn after(&self, target: &Arc<Target>, call: &Call<'_>) {
        let client = &call.visitor.client;
        let subscribed = match changed(call) {
            Some((true, uri)) => Some(uri.into()),
            Some((false, _)) => return,
            None => None,
        };
        if subscribed.is_none() && !self.listeners.listens(client) {
            self.used.add(client, target);
            // It may have begun meanwhile.
            if !self.listeners.listens(client) {
                return;
            }
        }
        // What the server says from its answer on, the client learns. A server that takes long to begin its stream keeps nobody waiting.
        let mut begun = self.receive_for(client, target, subscribed);
        let _ = timeout(BEGUN, begun.wait_for(|begun| *begun)).await;
    }

    /// A client listens from now on, and is told what is said in the sessions that it has used before.
    pub(super) fn listens(&self, client: &Client) {
        for target in &*self.used.take(client) {
            self.receive_for(client, target, None);
        }
    }

    fn receive_for(
        &self,
        client: &Client,
        target: &Arc<Target>,
        subscribed: Option<Box<str>>,
    ) -> watch::Receiver<bool> {
        let (begun, is_new) = self.sessions.join(client, target.key(), subscribed);
        if is_new {
            self.upstreams.in_background(self.clone().receive(Arc::clone(target)));
        }
        begun
    }

    /// Receives a session until nobody listens.
    async fn receive(self, target: Arc<Target>) {
        let key = target.key();
        let idle = async {
            let mut due = interval_at(Instant::now() + TOUCHED, TOUCHED);
            loop {
                due.tick().await;
                // And clients are forgotten that listen no more.
                self.upstreams.touch(&target).await;
                let Some(over) = self.sessions.keep(key, |client| self.listeners.listens(client)) else {
                    return;
                };
                for uri in over {
                    self.upstreams
                        .change_subscription(&target, "resources/unsubscribe", &uri)
                        .await;
                }
            }
        };
        select! {
            () = self.stop.cancelled() => {}
            () = idle => {}
            () = self.receive_on(&target) => {}
        }
        self.sessions.remove(key);
    }

    async fn receive_on(&self, target: &Arc<Target>) {
        let (mut delays, mut last): (_, Option<OpenSession>) = (delays(), None);
        loop {
            let mut pause = delays.next().unwrap_or(LONGEST);
            if let Some(session) = self.upstreams.shared_session(target).await {
                // The server does not know what was subscribed to in the session before.
                if last.as_ref().is_some_and(|last| !last.continues_as(&session)) {
                    for uri in self.sessions.uris(target.key()) {
                        self.upstreams
                            .change_subscription(target, "resources/subscribe", &uri)
                            .await;
                    }
                }
                let since = Instant::now();
                match self.upstreams.stand(&session, target).await {
                    Ok(Some(mut stream)) => {
                        self.sessions.begun(target.key());
                        while let Ok(heard) = stream.next().await {
                            self.tell(target, heard).await;
                        }
                    }
                    Ok(None) => pause = LONGEST,
                    Err(error) => {
                        tracing::debug!(installation.uid = %target.installation(), error = %error, "a server's stream cannot be opened");
                    }
                }
                if since.elapsed() > LONGEST {
                    delays = self::delays();
                }
                last = Some(session);
            }
            self.sessions.begun(target.key());
            sleep(pause).await;
        }
    }

    async fn tell(&self, target: &Arc<Target>, heard: Heard) {
        match heard {
            // The registry tells those who see them.
            Heard::ToolsChanged(installation) => (self.tools_changed)(&installation),
            heard => {
                let clients = self.sessions.told(target.key(), &heard);
                let pass_on = |client: &Client| {
                    let (client, copy) = (client.clone(), heard.copy());
                    async move {
                        if let Some(copy) = copy {
                            self.listeners.pass_on(&client, copy).await;
                        }
                    }
                };
                join_all(clients.iter().map(pass_on)).await;
            }
        }
    }
}

/// The resource of a request for its changes (true), or for none any more.
fn changed<'a>(call: &Call<'a>) -> Option<(bool, Cow<'a, str>)> {
    let subscribes = match call.method {
        "resources/subscribe" => true,
        "resources/unsubscribe" => false,
        _ => return None,
    };
    match call.to {
        To::Source(_, Some((_, own))) => Some((subscribes, json::unescape(own)?)),
        _ => None,
    }
}
