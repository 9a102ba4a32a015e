//! A request that one upstream answers: from the client's message to the upstream's answer under the client's id.

use std::{borrow::Cow, sync::Arc, time::Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{
    Mcp,
    asked::Questions,
    body, failure,
    in_flight::Guard,
    params::Parts,
    rpc::{INVALID_REQUEST, RpcError},
    session::Session,
};
use crate::{
    calls::{Call, CallEvent, CallStream, Outcome, To, Visitor},
    upstream::Together,
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
    pub(super) extra: &'a [(Cow<'a, str>, &'a str)],
}

/// The answer to a call.
pub(super) enum Answer {
    /// One message, in pieces.
    Message([Bytes; 3]),
    /// Messages; the last answers the call.
    Stream(Messages),
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
    /// Requests of the server's own that the client has got.
    questions: Questions,
    /// Whether the client can be asked anything here.
    asks: bool,
    _guard: Guard,
}

impl Answer {
    pub(super) fn whole(message: Bytes) -> Self {
        Self::Message(body::whole(message))
    }

    /// As one message, however long that takes: for clients that accept no stream, and for batches.
    pub(super) async fn into_message(self) -> Option<[Bytes; 3]> {
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
pub(super) async fn call(mcp: &Arc<Mcp>, request: Request<'_>, to: To<'_>, parts: Parts<'_>) -> Answer {
    let calls = &mcp.calls;
    let Request {
        visitor,
        method,
        came,
        together,
        session,
        id,
        extra,
    } = request;
    let cancel = CancellationToken::new();
    let Some(guard) = mcp.in_flight.begin(session.id, id, came, cancel.clone()) else {
        return Answer::whole(RpcError::new(INVALID_REQUEST, "a request with this id is under way").under(Some(id)));
    };
    if cancel.is_cancelled() {
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
        cancel,
    };
    let of_tool = matches!(to, To::Tool(_));
    match calls.call(&call).await {
        Ok(Outcome::Whole(reply, _)) => Answer::Message(reply.with_id(id.as_bytes())),
        Ok(Outcome::Stream(stream)) => Answer::Stream(Messages {
            stream,
            session: session.clone(),
            id: id.into(),
            of_tool,
            questions: Questions::new(Arc::clone(&mcp.asked), session.id),
            asks: false,
            _guard: guard,
        }),
        Err(error) => {
            let declares_output = || calls.declares_output(&call);
            failure::answer(&error, id, session.takes_links(), of_tool, declares_output)
                .map_or(Answer::Nothing, Answer::whole)
        }
    }
}

/// The next message of a stream.
pub(super) enum Next {
    /// A notification.
    Notification(Bytes),
    /// The answer, in pieces; nothing follows.
    Last([Bytes; 3]),
    /// The client cancelled the call; nothing follows.
    End,
}

impl Messages {
    /// The next message. Must not be called again after the last. Nothing is lost if this is dropped before it is ready.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            return match self.stream.next().await {
                Ok(CallEvent::Notification(message)) => Next::Notification(message),
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
                Ok(CallEvent::Reply(reply)) => Next::Last(reply.with_id(self.id.as_bytes())),
                Err(error) => {
                    let declares_output = || self.stream.declares_output();
                    let answer = failure::answer(
                        &error,
                        &self.id,
                        self.session.takes_links(),
                        self.of_tool,
                        declares_output,
                    );
                    answer.map_or(Next::End, |message| Next::Last(body::whole(message)))
                }
            };
        }
    }

    /// For a client that gets the messages as they come, and so can be asked something.
    pub(super) fn asking(self) -> Self {
        Self { asks: true, ..self }
    }
}
