//! A client's request in a session that others share, where it changes what the client is told of.

use std::{borrow::Cow, sync::Arc};

use super::{hub::Hub, places::Unheard, topics::Left};
use crate::{
    calls::call::{Call, To},
    json,
    upstream::{Client, Reply, Target},
};

/// A request for a resource's changes that is under way, or for none any more. Until it is answered, its client counts as subscribed.
pub(in crate::calls) struct Change {
    hub: Arc<Hub>,
    target: Arc<Target>,
    client: Client,
    uri: Box<str>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Subscribing,
    Unsubscribing,
    Settled,
}

impl Hub {
    /// Before a client's request goes to a session that others share: what the server says from now on its client hears, if it listens. Or the
    /// reply, where the server must not be asked.
    pub(in crate::calls) async fn before(
        self: &Arc<Self>,
        target: &Arc<Target>,
        call: &Call<'_>,
    ) -> Result<Option<Change>, Reply> {
        let client = &call.visitor.client;
        let changed = changed(call);
        let subscribes = matches!(changed, Some((true, _)));
        if !self.listeners.listens(client) && !subscribes {
            self.used.add(client, target);
        }
        // It may have begun meanwhile.
        let listens = self.listeners.listens(client);
        if listens || subscribes {
            let begun = self.join(client, target, true).await;
            if !listens {
                // Most begin to soon.
                self.may_return(client);
            }
            if let Some(begun) = begun {
                begun.wait().await;
            }
        }
        let Some((subscribes, uri)) = changed else {
            return Ok(None);
        };
        let state = if subscribes {
            let is_new = self.places.subscribe(client, call.visitor.subject, target, &uri);
            if !is_new.map_err(Reply::of_error)? {
                return Ok(None);
            }
            State::Subscribing
        } else {
            match self.places.unsubscribe(client, target, &uri) {
                Left::Others => return Err(Reply::of_result("{}")),
                Left::Nobody { .. } => State::Unsubscribing,
            }
        };
        Ok(Some(Change {
            hub: Arc::clone(self),
            target: Arc::clone(target),
            client: client.clone(),
            uri: uri.into(),
            state,
        }))
    }
}

impl Change {
    /// The server has begun to answer, or refused it.
    pub(in crate::calls) async fn answered(mut self, is_refused: bool) {
        match std::mem::replace(&mut self.state, State::Settled) {
            State::Subscribing if is_refused => self.withdraw(true),
            State::Subscribing => {
                // What changes from the answer on, the client is told of.
                if self.hub.listeners.listens(&self.client)
                    && let Some(topics) = self.hub.places.topics(&self.target)
                {
                    topics.acknowledged().await;
                }
            }
            State::Unsubscribing => self.hub.keep(&self.target, &self.uri).await,
            State::Settled => {}
        }
    }

    /// The client has not subscribed. A server that has refused that is told only what it has not been told for another.
    fn withdraw(&self, is_refused: bool) {
        let hub = &self.hub;
        if let Left::Nobody { owed } = hub.places.unsubscribe(&self.client, &self.target, &self.uri)
            && (owed || !is_refused)
            && let Some(session) = hub.places.session_if(&self.target, &self.uri, false)
        {
            let uris = vec![self.uri.clone()];
            hub.unsubscribe(Unheard { session, uris });
        }
    }
}

/// It may have arrived all the same.
impl Drop for Change {
    fn drop(&mut self) {
        if self.state == State::Subscribing {
            self.withdraw(false);
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
