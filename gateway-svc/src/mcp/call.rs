//! A request that one upstream answers: from the client's message to the upstream's answer under the client's id.

use std::{borrow::Cow, sync::Arc, time::Instant};

use bytes::Bytes;
use service_kit::turns::in_place;

use super::{
    asked::Questions,
    failure,
    in_flight::Guard,
    params::Parts,
    pieces::{self, Pieces, whole},
    rpc::{INTERNAL_ERROR, INVALID_REQUEST, RpcError},
    session::Session,
    tasks::{Holder, OwnTasks, TooLong},
    visit::Visit,
};
use crate::{
    calls::{Call, CallEvent, CallStream, Outcome, To, Visitor},
    upstream::{Reply, Together},
};

/// A request to be answered.
pub(super) struct Request<'a> {
    pub(super) visitor: &'a Visitor<'a>,
    pub(super) method: &'a str,
    /// When its head arrived.
    pub(super) came: Instant,
    /// The batch that it belongs to.
    pub(super) together: Option<&'a Arc<Together>>,
    pub(super) session: &'a Session,
    pub(super) id: &'a str,
    /// That it came with.
    pub(super) visit: &'a Visit,
    pub(super) extra: &'a [(Cow<'a, str>, &'a str)],
}

/// The answer to a call.
pub(super) enum Answer {
    /// One message, in pieces.
    Message(Pieces),
    /// Messages; the last answers the call.
    Stream(Box<Messages>),
    /// The client cancelled the call.
    Nothing,
}

/// The messages of a call that is answered by a stream.
pub(super) struct Messages {
    stream: CallStream,
    session: Session,
    id: Box<str>,
    /// Whether it is a tool's: failures are results then.
    of_tool: bool,
    /// Where the answer has the id of a task.
    holder: Option<Holder>,
    /// The answer, which the client has not got yet.
    replied: Option<Box<Reply>>,
    /// Requests of the server's own that the client has got.
    questions: Questions,
    /// Whether the client can be asked anything here.
    asks: bool,
    _guard: Guard,
}

impl Answer {
    pub(super) fn whole(message: Bytes) -> Self {
        Self::Message(whole(message))
    }

    /// As one message, however long that takes: for clients that accept no stream, and for batches.
    pub(super) async fn into_message(self) -> Option<Pieces> {
        match self {
            Self::Message(pieces) => Some(pieces),
            Self::Nothing => None,
            Self::Stream(mut messages) => loop {
                match messages.next().await {
                    Next::Notification(_) => {}
                    Next::Last(pieces) => return Some(pieces),
                    Next::End => return None,
                }
            },
        }
    }
}

/// Makes the call.
pub(super) async fn call(request: Request<'_>, to: To<'_>, parts: Parts<'_>) -> Answer {
    let Request {
        visitor,
        method,
        came,
        together,
        session,
        id,
        visit,
        extra,
    } = request;
    let mcp = &visit.at.mcp;
    let calls = &mcp.calls;
    let Some(guard) = mcp.in_flight.begin(session.id, id, came) else {
        return Answer::whole(RpcError::new(INVALID_REQUEST, "a request with this id is under way").under(Some(id)));
    };
    if guard.cancel().is_cancelled() {
        return Answer::Nothing;
    }
    let call = Call {
        visitor,
        method,
        to,
        params: &parts.params,
        meta: parts.meta,
        extra,
        together,
        cancel: guard.cancel().clone(),
    };
    let of_tool = matches!(to, To::Tool(_));
    let holder = Holder::of(method, parts.params.iter().any(|(name, _)| *name == "task"));
    match calls.call(&call).await {
        Ok(Outcome::Whole(reply, by)) => {
            let Some(holder) = holder else {
                return Answer::Message(pieces::answer(&reply, id, None));
            };
            let installation = &by.running.installation.uid;
            Answer::Message(answered(&visit.tasks(), &reply, Some(holder), installation, id).await)
        }
        Ok(Outcome::Stream(stream)) => Answer::Stream(Box::new(Messages {
            stream: *stream,
            session: session.clone(),
            id: id.into(),
            of_tool,
            holder,
            replied: None,
            questions: Questions::new(Arc::clone(&mcp.asked), session.id, visit.tasks()),
            asks: false,
            _guard: guard,
        })),
        Err(error) => {
            let declares_output = || calls.declares_output(&call);
            failure::answer(&error, id, session.takes_links(), of_tool, declares_output)
                .map_or(Answer::Nothing, Answer::whole)
        }
    }
}

/// A server's reply as the client gets it.
async fn answered(tasks: &OwnTasks, reply: &Reply, holder: Option<Holder>, installation: &str, id: &str) -> Pieces {
    // Without a task, nothing is looked for in the result.
    let length = holder.and_then(|_| reply.result()).map_or(0, |result| result.len());
    let renamed = in_place(length, || tasks.reply(reply, holder, installation, id)).await;
    renamed.unwrap_or_else(|TooLong| {
        let why = "the server has made a task under an id that is too long to be passed on";
        whole(RpcError::new(INTERNAL_ERROR, why).under(Some(id)))
    })
}

/// The next message of a stream.
pub(super) enum Next {
    /// A notification.
    Notification(Bytes),
    /// The answer, in pieces; nothing follows.
    Last(Pieces),
    /// The client cancelled the call; nothing follows.
    End,
}

impl Messages {
    /// The next message. Must not be called again after the last. Nothing is lost if this is dropped before it is ready.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            let tasks = self.questions.tasks();
            if let Some(reply) = &self.replied {
                let installation = self.stream.installation();
                return Next::Last(answered(tasks, reply, self.holder, installation, &self.id).await);
            }
            return match self.stream.next().await {
                Ok(CallEvent::Notification(message)) => {
                    Next::Notification(tasks.notification(message, self.stream.installation()))
                }
                Ok(CallEvent::Request(asking)) if self.asks => match self.questions.ask(asking) {
                    Some(message) => Next::Notification(message),
                    None => continue,
                },
                Ok(CallEvent::Request(asking)) => {
                    asking.refuse("the client takes no stream of messages with this answer, so it cannot be asked");
                    continue;
                }
                Ok(CallEvent::Withdrawn { text, id }) => match self.questions.withdraw(&text, id) {
                    Some(message) => Next::Notification(message),
                    None => continue,
                },
                Ok(CallEvent::Reply(reply)) => {
                    self.replied = Some(Box::new(reply));
                    continue;
                }
                Err(error) => {
                    let declares_output = || self.stream.declares_output();
                    let answer = failure::answer(
                        &error,
                        &self.id,
                        self.session.takes_links(),
                        self.of_tool,
                        declares_output,
                    );
                    answer.map_or(Next::End, |message| Next::Last(whole(message)))
                }
            };
        }
    }

    /// For a client that gets the messages as they come, and so can be asked something.
    pub(super) fn asking(self) -> Self {
        Self { asks: true, ..self }
    }
}
