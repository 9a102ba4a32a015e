//! `tools/call`: from the client's message to the upstream's answer under the client's id.

use std::{borrow::Cow, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use service_kit::turns::{SHORT, in_place, off_thread};
use tokio_util::sync::CancellationToken;

use super::{
    Mcp, body, failure,
    in_flight::Guard,
    rpc::{INVALID_PARAMS, INVALID_REQUEST, RpcError},
    session::Session,
};
use crate::{
    calls::{CallEvent, CallStream, Meta, Outcome, ToolCall},
    domain::{Caller, ConsumerRef},
    json::{self, Object},
    upstream::{EVENT, EVENT_ENDS, Together, in_one_line, push_event},
};

/// A call to be answered.
pub(super) struct Request<'a> {
    /// When its head arrived.
    pub(super) came: Instant,
    pub(super) caller: &'a Caller,
    pub(super) subject: &'a Arc<str>,
    /// The batch that it belongs to.
    pub(super) together: Option<&'a Arc<Together>>,
    pub(super) consumer: &'a ConsumerRef,
    pub(super) session: Session,
    pub(super) id: &'a str,
    pub(super) params: Option<&'a Object<'a>>,
    pub(super) extra: &'a [(Cow<'a, str>, &'a str)],
    pub(super) headers: &'a HeaderMap,
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
pub(super) async fn call(mcp: &Mcp, request: Request<'_>) -> Answer {
    let calls = &mcp.calls;
    let Request {
        came,
        caller,
        subject,
        together,
        consumer,
        session,
        id,
        params,
        extra,
        headers,
    } = request;
    let length = params.map_or(0, Object::len);
    let own_turn = mcp.turns.take(length, subject).await;
    let parts = match in_place(length, || parts(params)).await {
        Ok(parts) => parts,
        Err(error) => return Answer::whole(error.under(Some(id))),
    };
    drop(own_turn);
    let cancel = CancellationToken::new();
    let Some(guard) = mcp.in_flight.begin(session.id, id, came, cancel.clone()) else {
        return Answer::whole(RpcError::new(INVALID_REQUEST, "a request with this id is under way").under(Some(id)));
    };
    if cancel.is_cancelled() {
        return Answer::Nothing;
    }
    let call = ToolCall {
        exposed_name: &parts.name,
        params: &parts.params,
        meta: parts.meta,
        extra,
        headers,
        subject,
        together,
        client: session.client(),
        revision: session.revision,
        cancel,
    };
    match calls.call(caller, consumer, &call).await {
        Ok(Outcome::Whole(reply, _)) => Answer::Message(reply.with_id(id.as_bytes())),
        Ok(Outcome::Stream(stream)) => Answer::Stream(Messages {
            stream,
            session,
            id: id.into(),
            _guard: guard,
        }),
        Err(error) => {
            let declares_output = || calls.declares_output(caller, consumer, &parts.name);
            failure::answer(&error, id, &session, declares_output).map_or(Answer::Nothing, Answer::whole)
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
    async fn next(&mut self) -> Next {
        match self.stream.next().await {
            Ok(CallEvent::Notification(message)) => Next::Notification(message),
            Ok(CallEvent::Reply(reply)) => Next::Last(reply.with_id(self.id.as_bytes())),
            Err(error) => {
                let answer = failure::answer(&error, &self.id, &self.session, || self.stream.declares_output());
                answer.map_or(Next::End, |message| Next::Last(body::whole(message)))
            }
        }
    }

    /// As server-sent events.
    pub(super) fn into_events(mut self) -> impl futures::Stream<Item = Bytes> + Send + 'static {
        async_stream::stream! {
            loop {
                let (pieces, is_last) = match self.next().await {
                    Next::Notification(message) => (body::whole(message), false),
                    Next::Last(pieces) => (pieces, true),
                    Next::End => return,
                };
                let length: usize = pieces.iter().map(Bytes::len).sum();
                if length > SHORT {
                    // A large message is sent in its own pieces. They hold their room until they are sent, also where a copy is sent.
                    yield Bytes::from_static(EVENT);
                    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                        let piece = piece.clone();
                        yield off_thread(piece.len(), || in_one_line(piece)).await;
                    }
                    yield Bytes::from_static(EVENT_ENDS);
                } else {
                    let mut event = BytesMut::with_capacity(length + 32);
                    push_event(&mut event, &pieces.each_ref().map(|piece| &piece[..]));
                    yield event.freeze();
                }
                if is_last {
                    return;
                }
            }
        }
    }
}

/// The parts of `params`.
struct Parts<'a> {
    name: Cow<'a, str>,
    params: Vec<(&'a str, &'a str)>,
    meta: Option<Meta<'a>>,
}

/// The members of the `params` of a call that have a meaning to the gateway or a server.
const PARAMS: [&str; 4] = ["name", "arguments", "_meta", "task"];

fn parts<'a>(params: Option<&'a Object<'a>>) -> Result<Parts<'a>, RpcError> {
    let invalid = |what: &str| RpcError::new(INVALID_PARAMS, what);
    let params = params.ok_or_else(|| invalid("params.name must name a tool"))?;
    let name = params
        .string("name")
        .ok_or_else(|| invalid("params.name must name a tool"))?;
    let ambiguous = |of: &str, name: &str| {
        let what = format!("the member {name:?} of {of} can be mistaken for another; send the exact name");
        RpcError::new(INVALID_PARAMS, what)
    };
    if let Some(name) = params.lookalike(&PARAMS) {
        return Err(ambiguous("params", name));
    }
    if params
        .get("arguments")
        .is_some_and(|arguments| !arguments.starts_with('{'))
    {
        return Err(invalid("params.arguments must be an object"));
    }
    let meta = match params.get("_meta") {
        None => None,
        Some(meta) => {
            let meta = Object::parse(meta).map_err(|_| invalid("params._meta must be an object"))?;
            if let Some(name) = meta.lookalike(&["progressToken"]) {
                return Err(ambiguous("params._meta", name));
            }
            let progress_token = meta.get("progressToken");
            if progress_token.is_some_and(|token| !is_progress_token(token)) {
                return Err(invalid("params._meta.progressToken must be a string or a number"));
            }
            let members = meta
                .into_members()
                .filter(|(name, _)| name != "progressToken")
                .collect();
            Some(Meta {
                progress_token,
                members,
            })
        }
    };
    // Tasks are not offered: a `task` member means nothing here, and must not reach a server to which it does.
    let rest = params
        .iter()
        .filter(|(name, _)| !matches!(*name, "name" | "_meta" | "task"))
        .collect();
    Ok(Parts {
        name,
        params: rest,
        meta,
    })
}

fn is_progress_token(token: &str) -> bool {
    token.len() <= 1024
        && (json::unescape(token).is_some() || token.starts_with(|c: char| c == '-' || c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_params_and_keeps_the_rest() {
        let object = Object::parse(
            r#"{"name":"a","arguments":{"x":1.0},"_meta":{"progressToken":1,"k":[2]},"task":{},"new":12345678901234567890}"#,
        )
        .unwrap();
        let parts = parts(Some(&object)).unwrap();
        assert_eq!(parts.name, "a");
        assert_eq!(
            parts.params,
            [("arguments", r#"{"x":1.0}"#), ("new", "12345678901234567890")]
        );
        let meta = parts.meta.unwrap();
        assert_eq!(
            (meta.progress_token, meta.members),
            (Some("1"), vec![("k".into(), "[2]")])
        );
    }

    #[test]
    fn refuses_odd_params() {
        for text in [
            "{}",
            r#"{"name":1}"#,
            r#"{"name":"a","arguments":[]}"#,
            r#"{"name":"a","Name":"b"}"#,
            r#"{"name":"a","argument\u017f":{}}"#,
            r#"{"name":"a","Tas\u212a":{}}"#,
            r#"{"name":"a","_meta":{"progress_token":1}}"#,
            r#"{"name":"a","_meta":1}"#,
            r#"{"name":"a","_meta":{"progressToken":{}}}"#,
            r#"{"name":"a","arguments":null}"#,
        ] {
            let object = Object::parse(text).unwrap();
            assert_eq!(
                parts(Some(&object)).err().map(|error| error.code),
                Some(INVALID_PARAMS),
                "{text}"
            );
        }
        assert!(parts(None).is_err());
    }
}
