//! The messages of a call that a server answers by a stream.

use axum::response::Response;
use bytes::Bytes;
use futures::Stream;

use super::{
    super::body,
    answering::{Answer, Answering},
    question::Question,
    state::State,
};
use crate::{
    calls::{CallEvent, CallStream},
    json::{self, Object},
    upstream::Asking,
};

/// A call that waits for the answer of its client.
#[derive(Debug)]
pub(in crate::mcp) struct Parked {
    pub(super) stream: CallStream,
    pub(super) asking: Asking,
    /// Under which the server reports progress, as JSON.
    pub(super) token: Option<Box<str>>,
}

/// The messages; the last is the answer.
pub(super) struct Messages {
    /// `None` once the answer is there.
    stream: Option<CallStream>,
    answering: Answering<'static>,
    /// Under which the stream reports progress, and under which the client expects it. As JSON.
    token: Option<Box<str>>,
    shown_token: Option<Box<str>>,
}

enum Next {
    Notification(Bytes),
    /// Nothing follows.
    Last(Answer),
}

impl Messages {
    /// `token` is the one under which progress is reported.
    pub(super) fn new(stream: CallStream, answering: Answering<'static>, token: Option<&str>) -> Self {
        Self {
            stream: Some(stream),
            answering,
            token: token.map(Box::from),
            shown_token: token.map(Box::from),
        }
    }

    /// Those of a call whose client repeats it, and expects progress under another token.
    pub(super) fn resumed(
        stream: CallStream,
        answering: Answering<'static>,
        token: Option<Box<str>>,
        shown: Option<&str>,
    ) -> Self {
        Self {
            stream: Some(stream),
            answering,
            token,
            shown_token: shown.map(Box::from),
        }
    }

    /// The response: as a stream where the client takes one.
    pub(super) async fn respond(mut self, streams: bool) -> Response {
        if streams {
            return body::events(body::as_events(self.into_events()));
        }
        loop {
            if let Next::Last(answer) = self.next().await {
                return answer.respond();
            }
        }
    }

    fn into_events(mut self) -> impl Stream<Item = Vec<Bytes>> + Send + 'static {
        async_stream::stream! {
            loop {
                match self.next().await {
                    Next::Notification(message) => yield vec![message],
                    Next::Last(answer) => {
                        yield answer.pieces;
                        return;
                    }
                }
            }
        }
    }

    /// Must not be called again after the last.
    async fn next(&mut self) -> Next {
        loop {
            let Some(stream) = &mut self.stream else {
                let error = crate::domain::CallError::Internal;
                return Next::Last(self.answering.failed(&error, || false).await);
            };
            match stream.next().await {
                Ok(CallEvent::Notification(message)) => {
                    if let Some(message) = self.notification(message) {
                        return Next::Notification(message);
                    }
                }
                Ok(CallEvent::Request(asking)) => {
                    if let Some(answer) = self.park(asking) {
                        return Next::Last(answer);
                    }
                }
                // The client has not been asked yet: it is when the call waits, and then nothing is read.
                Ok(CallEvent::Withdrawn { .. }) => {}
                Ok(CallEvent::Reply(reply)) => {
                    return Next::Last(self.answering.reply(&reply, stream.installation()).await);
                }
                Err(error) => {
                    let declares_output = stream.declares_output();
                    return Next::Last(self.answering.failed(&error, || declares_output).await);
                }
            }
        }
    }

    /// The notification as the client gets it; `None` where it is none for an answer of this revision.
    fn notification(&self, message: Bytes) -> Option<Bytes> {
        let text = std::str::from_utf8(&message).ok()?;
        let object = Object::parse(text).ok()?;
        let params = || Object::parse(object.get("params")?).ok();
        match &*object.string("method")? {
            "notifications/message" => {
                let params = params()?;
                self.answering.stated.logs(params.get("level")?).then_some(message)
            }
            "notifications/progress" if self.token != self.shown_token => {
                let shown = self.shown_token.as_deref()?;
                let start = object.range("params")?.start;
                let at = params()?.range("progressToken")?;
                let at = start + at.start..start + at.end;
                Some(json::replaced(&message, at, shown.as_bytes()))
            }
            // Those who listen get them.
            "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed"
            | "notifications/resources/updated"
            | "notifications/elicitation/complete" => None,
            _ => Some(message),
        }
    }

    /// Lets the call wait, and asks the client. `None`: the client cannot be asked, and the call goes on.
    fn park(&mut self, asking: Asking) -> Option<Answer> {
        let question = Question::of(&asking).filter(|question| self.answering.can_ask(question));
        let Some(question) = question else {
            asking.refuse("the client did not say that it can be asked this");
            return None;
        };
        tracing::debug!(
            mcp.method = question.method(),
            "a call waits for the answer of its client"
        );
        let parked = Parked {
            stream: self.stream.take()?,
            asking,
            token: self.token.clone(),
        };
        park(&self.answering, parked, question.into_request())
            .map_err(|parked| {
                parked
                    .asking
                    .refuse("no more calls may wait for the answers of their clients at present");
                self.stream = Some(parked.stream);
            })
            .ok()
    }
}

/// The answer that asks the client; `Err`: there is no place to wait.
pub(super) fn park(answering: &Answering<'_>, parked: Parked, question: Vec<Bytes>) -> Result<Answer, Box<Parked>> {
    let mcp = &answering.mcp;
    let place = mcp.parking.park(&answering.subject, Box::new(parked), &mcp.runtime)?;
    Ok(answering.ask(question, &State::Parked(place)))
}
