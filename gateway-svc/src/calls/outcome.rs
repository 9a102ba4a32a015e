//! The result of a call: a reply, or messages of which the last is the reply.

use std::{
    ops::Range,
    pin::{Pin, pin},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    ToolsChanged, during::Said, failure::upstream_failed, hearing::Hearing, late::Late, listeners::Listeners,
    naming::Naming, own_tools::KnownTools, renewal::Renewal,
};
use crate::{
    domain::{CallError, Entry},
    resolve,
    upstream::{Asking, Client, Event, Heard, List, Messages, Reply, Target, UpstreamError},
};

/// The result of a call.
pub(crate) enum Outcome {
    /// The reply, and where the call went.
    Whole(Reply, Arc<resolve::Target>),
    /// Messages, the last of which is the reply.
    Stream(Box<CallStream>),
}

/// Messages of a call, the last of which is the reply.
pub(crate) struct CallStream {
    messages: Messages,
    at: At,
    /// Where the server may ask the client first, and gets a credential that is vended.
    renewal: Option<Box<Renewal>>,
    /// Where others have resources beside the server.
    naming: Option<Box<Naming>>,
}

/// One message of a call.
pub(crate) enum CallEvent {
    /// A notification, ready to be passed on.
    Notification(Bytes),
    /// A request of the server's own, for the client.
    Request(Asking),
    /// The server withdraws a request of its own: the notification, and where the id of that is in it.
    Withdrawn {
        /// `notifications/cancelled`, verbatim.
        text: Bytes,
        /// Where the id is that the server knows its request by.
        id: Range<usize>,
    },
    /// The reply; nothing follows.
    Reply(Reply),
}

/// Where a call went.
pub(super) struct At {
    pub(super) to: Arc<resolve::Target>,
    /// Called when the upstream announces that its tools have changed.
    pub(super) tools_changed: ToolsChanged,
    /// Nobody gets messages any more once it comes.
    pub(super) late: Late,
    /// The session, if it is its client's own and the client gets all tools that the server shows it there.
    pub(super) own: Option<Box<Own>>,
    /// Where the client has no session, and its server has: what it says beside the answer.
    pub(super) hearing: Option<Box<Hearing>>,
    /// Where the client has no session: those who listen for it.
    pub(super) others: Option<Box<Others>>,
}

/// Streams of a client without a session, which are told what is said on those of its calls and concerns none.
pub(super) struct Others {
    listeners: Arc<Listeners>,
    client: Client,
}

impl Others {
    pub(super) fn of(client: &Client, listeners: &Arc<Listeners>) -> Option<Box<Self>> {
        let others = || Self {
            listeners: Arc::clone(listeners),
            client: client.clone(),
        };
        matches!(client, Client::Stateless { .. }).then(|| Box::new(others()))
    }

    /// Tells them what concerns no call; else returns it.
    async fn told(&self, event: Event, at: &At) -> Option<Event> {
        let installation = &at.to.running.installation.uid;
        match Heard::of(event, installation)? {
            // In a session that others share, the registry tells those who see them.
            Heard::ToolsChanged(_) if at.own.is_none() => None,
            heard @ (Heard::Changed(_) | Heard::ToolsChanged(_) | Heard::Updated(_)) => {
                self.listeners.pass_on(&self.client, installation, heard).await;
                None
            }
            Heard::Notification { text, .. } => Some(Event::Notification(text)),
            Heard::Progress(_) | Heard::Request(_) | Heard::Withdrawn { .. } => None,
        }
    }
}

/// Whether it may be what concerns no call.
fn may_concern_others(event: &Event) -> bool {
    match event {
        Event::ListChanged(_) => true,
        Event::Notification(text) => std::str::from_utf8(text).is_ok_and(|text| text.contains("/resources/updated")),
        _ => false,
    }
}

/// A session of one client alone.
pub(super) struct Own {
    tools: Arc<KnownTools>,
    client: Client,
}

impl Own {
    pub(super) fn of(target: &Target, whole: bool, tools: &Arc<KnownTools>) -> Option<Box<Self>> {
        let client = target.client().filter(|_| whole)?.clone();
        let tools = Arc::clone(tools);
        Some(Box::new(Self { tools, client }))
    }
}

/// What comes before the gateway has stopped for too long to pass it on. A call that is dropped is cancelled at its server.
pub(super) async fn unless_late<T>(
    late: &Late,
    // Calls are large: by value, they would be copied.
    coming: Pin<&mut impl Future<Output = Result<T, CallError>>>,
) -> Result<T, CallError> {
    tokio::select! {
        biased;
        came = coming => came,
        () = late.comes() => Err(CallError::Interrupted),
    }
}

impl Outcome {
    /// The reply, for whoever waits for it alone, and the entry whose server gave it. The server is told `why` nobody answers its requests.
    pub(super) async fn reply(self, why: &'static str) -> Result<(Arc<Entry>, Reply), CallError> {
        let mut stream = match self {
            Self::Whole(reply, by) => return Ok((Arc::clone(&by.running.entry), reply)),
            Self::Stream(stream) => stream,
        };
        loop {
            match stream.next().await? {
                CallEvent::Reply(reply) => return Ok((Arc::clone(&stream.at.to.running.entry), reply)),
                CallEvent::Request(asking) => asking.refuse(why),
                CallEvent::Notification(_) | CallEvent::Withdrawn { .. } => {}
            }
        }
    }
}

impl std::fmt::Debug for CallStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallStream")
            .field("entry", &self.at.to.running.entry.slug)
            .finish_non_exhaustive()
    }
}

impl CallStream {
    pub(super) fn new(messages: Messages, at: At, renewal: impl FnOnce() -> Renewal) -> Self {
        let renews = matches!(messages, Messages::Rounds(_)) && at.to.running.revision.vends_headers;
        Self {
            messages,
            at,
            renewal: renews.then(|| Box::new(renewal())),
            naming: None,
        }
    }

    /// The uid of the installation whose server answers.
    pub(crate) fn installation(&self) -> &Arc<str> {
        &self.at.to.running.installation.uid
    }

    /// With resources as the client knows them.
    pub(super) fn named(self, naming: Naming) -> Self {
        let naming = Some(Box::new(naming));
        Self { naming, ..self }
    }

    /// Whether the tool has an output schema.
    pub(crate) fn declares_output(&self) -> bool {
        self.at
            .to
            .definition
            .as_ref()
            .is_some_and(|definition| definition.declares_output())
    }

    /// Whether the server has withdrawn what the client was asked last.
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.at
            .hearing
            .as_ref()
            .is_some_and(|hearing| hearing.line().is_withdrawn())
    }

    /// The next message. Must not be called again after the reply or an error.
    pub(crate) async fn next(&mut self) -> Result<CallEvent, CallError> {
        let late = self.at.late.clone();
        if let Some(hearing) = &self.at.hearing {
            hearing.line().answered();
        }
        let came = unless_late(&late, pin!(self.come())).await;
        if let (Some(hearing), Ok(CallEvent::Request(asking))) = (&self.at.hearing, &came) {
            hearing.line().asks(asking);
        }
        came
    }

    /// The next that the server says, in its answer or beside it.
    async fn said(&mut self) -> Result<Event, UpstreamError> {
        let Some(hearing) = &self.at.hearing else {
            return self.messages.next().await;
        };
        tokio::select! {
            biased;
            said = hearing.next() => Ok(match said {
                Said::Notification(message) => Event::Notification(message),
                Said::Request(asking) => Event::Request(asking),
            }),
            event = self.messages.next() => event,
        }
    }

    async fn come(&mut self) -> Result<CallEvent, CallError> {
        loop {
            if let Some(naming) = &mut self.naming
                && let Some(reply) = naming.reply().await
            {
                return Ok(CallEvent::Reply(reply));
            }
            let event = match self.said().await {
                Ok(event) => event,
                Err(error) => {
                    let mends = match &mut self.renewal {
                        Some(renewal) => {
                            Box::pin(renewal.mends(&error, &mut self.messages, &self.at.to.running)).await?
                        }
                        None => false,
                    };
                    if mends {
                        continue;
                    }
                    return Err(upstream_failed(error, &self.at.to.running.entry));
                }
            };
            if let Event::ListChanged(List::Tools) = &event {
                let installation = &self.at.to.running.installation.uid;
                (self.at.tools_changed)(installation);
                if let Some(own) = &self.at.own {
                    own.tools.changed(&own.client, installation);
                }
            }
            let event = match &self.at.others {
                Some(others) if may_concern_others(&event) => others.told(event, &self.at).await,
                _ => Some(event),
            };
            match event {
                Some(Event::Notification(message)) => {
                    let message = match &self.naming {
                        Some(naming) => naming.notification(message),
                        None => Some(message),
                    };
                    if let Some(message) = message {
                        return Ok(CallEvent::Notification(message));
                    }
                }
                Some(Event::Reply(reply)) => match &mut self.naming {
                    Some(naming) => naming.keep(reply),
                    None => return Ok(CallEvent::Reply(reply)),
                },
                Some(Event::Request(asking)) => return Ok(CallEvent::Request(asking)),
                Some(Event::Withdrawn { text, id }) => return Ok(CallEvent::Withdrawn { text, id }),
                Some(Event::ListChanged(List::Tools)) if self.at.own.is_none() => {}
                Some(Event::ListChanged(list)) => return Ok(CallEvent::Notification(list.changed())),
                // That of another request is on streams alone that belong to no call.
                None | Some(Event::Progress(_)) => {}
            }
        }
    }
}
