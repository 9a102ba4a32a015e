//! Messages of the server that no request is answered by: to whom they go.
//!
//! One process for all: what names a call by its progress token goes to its caller, what names a task to whoever waits for its result, the change of a
//! resource to those who have subscribed to it, the rest to all who have opened a stream. It may be about another person's call, so it goes on nobody's.
//! With a client of its own, each message goes to that, on one stream.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::broadcast;

use super::{Session, subscribers::UPDATED, tasks};
use crate::{
    backlog,
    envelope::{Members, number},
};

pub(super) const TOOLS_CHANGED: &str = "notifications/tools/list_changed";

/// The streams that clients have opened without a request.
pub(super) enum Streams {
    /// Of all clients.
    Shared(broadcast::Sender<Arc<Said>>),
    /// Of the only client, by number.
    Own(BTreeMap<u64, backlog::Sender>),
}

/// A message for all, or for those who have subscribed to this resource.
pub(super) struct Said {
    text: String,
    uri: Option<String>,
}

/// A stream to the server's only client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The answer to a request, by the bridge's id.
    Call(u64),
    /// One that was opened without a request.
    Stream(u64),
}

/// A stream that a client has opened without a request.
pub(crate) struct Listening(Kind);

enum Kind {
    Shared {
        session: Arc<Session>,
        client: String,
        all: broadcast::Receiver<Arc<Said>>,
    },
    Own {
        session: Arc<Session>,
        number: u64,
        queue: backlog::Receiver,
    },
}

impl Streams {
    pub(super) fn new(alone: bool) -> Self {
        match alone {
            true => Self::Own(BTreeMap::new()),
            false => Self::Shared(broadcast::channel(256).0),
        }
    }
}

impl Session {
    /// Opens a stream for this client.
    pub(crate) fn listen(self: &Arc<Self>, client: &str) -> Listening {
        Listening(match &mut *self.streams() {
            Streams::Shared(all) => Kind::Shared {
                session: Arc::clone(self),
                client: client.to_owned(),
                all: all.subscribe(),
            },
            Streams::Own(open) => {
                let (sender, queue) = self.backlog.queue();
                let number = open.last_key_value().map_or(0, |(last, _)| last + 1);
                open.insert(number, sender);
                let session = Arc::clone(self);
                Kind::Own { session, number, queue }
            }
        })
    }

    /// Processes a notification of the server.
    pub(super) fn notify(&self, message: &Members<'_>, method: &str, line: &[u8]) {
        match method {
            "notifications/progress" => self.progress(message),
            "notifications/cancelled" => self.withdraw(message, line),
            _ => {
                // The list is read after the server is initialized, with all earlier changes.
                if method == TOOLS_CHANGED && self.initialized.get().is_some() {
                    self.tools_changed.send_replace(());
                }
                if self.subscribed(message) {
                    return;
                }
                let Ok(text) = std::str::from_utf8(line) else {
                    return;
                };
                if let Streams::Shared(all) = &*self.streams() {
                    if let Some(task) = tasks::about(message) {
                        let _ = self.to_awaiting(&task, text.to_owned());
                        return;
                    }
                    let uri = || message.object("params")?.string("uri");
                    let uri = (method == UPDATED).then(|| uri().unwrap_or_default());
                    let text = text.to_owned();
                    let _ = all.send(Arc::new(Said { text, uri }));
                    return;
                }
                // A server that is called over HTTP sends its log of a call with the answer.
                let with_call = method == "notifications/message";
                self.to_client(text.to_owned(), with_call);
            }
        }
    }

    fn progress(&self, message: &Members<'_>) {
        let Some(params) = message.object("params") else {
            return;
        };
        let id = params.get("progressToken").and_then(|token| number(token.get()));
        let pending = self.pending();
        let Some(pending) = id.and_then(|id| pending.get(&id)) else {
            return;
        };
        if let Some(token) = &pending.progress_token {
            let text = message.with("params", &params.with("progressToken", token));
            // Later progress replaces it.
            let _ = pending.messages.offer(text);
        }
    }

    /// Sends a message to the server's only client, with the answer to a call or on another stream, whichever there is; `with_call`: the first,
    /// rather. Of several, on the one that began last: nothing says which call a message is of, and the earlier ones were there without it. `None`:
    /// there is none that the client reads.
    pub(super) fn to_client(&self, text: String, with_call: bool) -> Option<Place> {
        let text = match with_call {
            true => self.with_call(text),
            false => self.on_stream(text),
        };
        match text {
            Ok(place) => Some(place),
            Err(text) if with_call => self.on_stream(text).ok(),
            Err(text) => self.with_call(text).ok(),
        }
    }

    fn with_call(&self, text: String) -> Result<Place, String> {
        let pending = self.pending();
        let streams = pending
            .iter()
            .rev()
            .filter(|(_, pending)| pending.takes_stream && !pending.subscribes);
        first(streams.map(|(id, pending)| (*id, &pending.messages)), text).map(Place::Call)
    }

    fn on_stream(&self, text: String) -> Result<Place, String> {
        match &*self.streams() {
            Streams::Own(open) => {
                first(open.iter().rev().map(|(number, queue)| (*number, queue)), text).map(Place::Stream)
            }
            Streams::Shared(_) => Err(text),
        }
    }

    /// Sends a message about this task with the answer to the request for its result. Returns the message where nobody waits for that.
    pub(super) fn to_awaiting(&self, task: &str, text: String) -> Result<Place, String> {
        let pending = self.pending();
        let awaiting = pending
            .iter()
            .rev()
            .filter(|(_, pending)| pending.takes_stream && pending.task.as_deref() == Some(task));
        first(awaiting.map(|(id, pending)| (*id, &pending.messages)), text).map(Place::Call)
    }

    /// Sends a message on this stream, if it is still open.
    pub(super) fn at(&self, place: Place, text: String) {
        let _ = match (place, &*self.streams()) {
            (Place::Call(id), _) => self.pending().get(&id).map(|pending| pending.messages.offer(text)),
            (Place::Stream(number), Streams::Own(open)) => open.get(&number).map(|queue| queue.offer(text)),
            (Place::Stream(_), Streams::Shared(_)) => None,
        };
    }
}

/// Queues a message where there is room first.
fn first<'a>(queues: impl Iterator<Item = (u64, &'a backlog::Sender)>, mut text: String) -> Result<u64, String> {
    for (number, queue) in queues {
        match queue.offer(text) {
            Ok(()) => return Ok(number),
            Err(refused) => text = refused,
        }
    }
    Err(text)
}

impl Listening {
    /// The next message; `None`: there will be none.
    pub(crate) async fn next(&mut self) -> Option<String> {
        match &mut self.0 {
            Kind::Own { queue, .. } => queue.recv().await,
            Kind::Shared { session, client, all } => loop {
                match all.recv().await {
                    Ok(said) => {
                        let is_told = |uri: &String| session.has_subscribed(client, uri);
                        if said.uri.as_ref().is_none_or(is_told) {
                            return Some(said.text.clone());
                        }
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            },
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Kind::Own { session, number, .. } = &self.0 {
            if let Streams::Own(open) = &mut *session.streams() {
                open.remove(number);
            }
            session.closed(Place::Stream(*number), true);
        }
    }
}
