//! A request of an upstream's own, which its client answers.

use std::{borrow::Cow, sync::Arc};

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    message::ServerRequest, modern::question::Question, session::Session, target::Target, upstreams::Upstreams,
};

/// A request of an upstream's own (sampling, elicitation, roots), which waits for the answer of its client.
pub(crate) struct Asking(By);

enum By {
    /// As a legacy server has sent it, which gets the answer.
    Request(Sent),
    /// As a modern server asks in its result, for whose call the answer is kept.
    Question(Question),
}

struct Sent {
    request: ServerRequest,
    upstreams: Upstreams,
    target: Arc<Target>,
    session: Arc<Session>,
}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let method = match &self.0 {
            By::Request(sent) => &sent.request.method,
            By::Question(question) => &question.method,
        };
        f.debug_struct("Asking").field("method", method).finish_non_exhaustive()
    }
}

impl Asking {
    pub(super) fn new(
        request: ServerRequest,
        upstreams: Upstreams,
        target: Arc<Target>,
        session: Arc<Session>,
    ) -> Self {
        Self(By::Request(Sent {
            request,
            upstreams,
            target,
            session,
        }))
    }

    pub(super) fn of_question(question: Question) -> Self {
        Self(By::Question(question))
    }

    /// The request as the client gets it, under this id, which is JSON. Progress is reported under the same. `task`: the id of its task, as JSON, in
    /// place of the server's.
    pub(crate) fn with_id(&self, id: &[u8], task: Option<&[u8]>) -> Bytes {
        match &self.0 {
            By::Request(sent) => sent.request.with_id(id, task),
            By::Question(question) => question.with_id(id),
        }
    }

    /// About how many bytes it is, where it is not a part of an answer.
    pub(crate) fn length(&self) -> usize {
        match &self.0 {
            By::Request(sent) => sent.request.text().len(),
            By::Question(_) => 0,
        }
    }

    /// The request under some id.
    pub(crate) fn message(&self) -> Bytes {
        match &self.0 {
            By::Request(sent) => sent.request.text(),
            By::Question(question) => question.with_id(b"0"),
        }
    }

    /// The task that it is about: the uid of the installation whose server has it, and the id that the server knows it by.
    pub(crate) fn task(&self) -> Option<(&Arc<str>, Cow<'_, str>)> {
        match &self.0 {
            By::Request(sent) => Some((sent.target.installation(), sent.request.task()?)),
            By::Question(_) => None,
        }
    }

    /// Whose server asks, outside the result of a call; `None`: it asks in one.
    pub(crate) fn target(&self) -> Option<&Target> {
        match &self.0 {
            By::Request(sent) => Some(&sent.target),
            By::Question(_) => None,
        }
    }

    /// Its id as the server knows it, verbatim; empty if it has none.
    pub(crate) fn own_id(&self) -> Bytes {
        match &self.0 {
            By::Request(sent) => sent.request.id(),
            By::Question(_) => Bytes::new(),
        }
    }

    /// Passes on the client's answer: what follows the id in its message, which begins with a comma.
    pub(crate) async fn answer(&self, rest: &[u8]) {
        match &self.0 {
            By::Request(sent) => sent.answer(rest).await,
            By::Question(question) => question.answer(rest),
        }
    }

    /// Passes on what the client reports of its progress: the members of `params` besides the token, each with a comma before it.
    pub(crate) async fn progress(&self, members: &[u8]) {
        // A question in a result has no token.
        if let By::Request(sent) = &self.0 {
            sent.progress(members).await;
        }
    }

    /// Answers in the background that nobody can.
    pub(crate) fn refuse(self, why: &'static str) {
        let mut rest = Vec::from(&b",\"error\":{\"code\":-32601,\"message\":"[..]);
        crate::json::push_string(&mut rest, why);
        rest.extend_from_slice(b"}}");
        self.answer_in_background(rest);
    }

    /// Answers a `ping` in the background.
    pub(super) fn pong(self) {
        self.answer_in_background(Vec::from(b",\"result\":{}}"));
    }

    fn answer_in_background(self, rest: Vec<u8>) {
        match self.0 {
            // A server that sends requests faster than it accepts answers gets none.
            By::Request(sent) if sent.session.side_messages.available_permits() > 0 => {
                tokio::spawn(async move { sent.answer(&rest).await });
            }
            By::Request(_) => {}
            By::Question(question) => question.answer(&rest),
        }
    }
}

impl Sent {
    async fn answer(&self, rest: &[u8]) {
        let mut body = BytesMut::from(&b"{\"jsonrpc\":\"2.0\",\"id\":"[..]);
        body.put_slice(&self.request.id());
        body.put_slice(rest);
        self.upstreams.send(&self.target, &self.session, body.freeze()).await;
    }

    async fn progress(&self, members: &[u8]) {
        let Some(token) = self.request.progress_token() else {
            return;
        };
        let mut body = BytesMut::from(
            &b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":"[..],
        );
        body.put_slice(&token);
        body.put_slice(members);
        body.put_slice(b"}}");
        self.upstreams.send(&self.target, &self.session, body.freeze()).await;
    }
}
