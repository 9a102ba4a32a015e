//! A request of an upstream's own, which its client answers.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{message::ServerRequest, session::Session, target::Target, upstreams::Upstreams};

/// A request of an upstream's own (sampling, elicitation, roots), which waits for the answer of its client.
pub(crate) struct Asking {
    request: ServerRequest,
    upstreams: Upstreams,
    target: Arc<Target>,
    session: Arc<Session>,
}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let method = &self.request.method;
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
        Self {
            request,
            upstreams,
            target,
            session,
        }
    }

    /// The request as the client gets it, under this id, which is JSON. Progress is reported under the same.
    pub(crate) fn with_id(&self, id: &[u8]) -> Bytes {
        self.request.with_id(id)
    }

    /// Its id as the server knows it, verbatim.
    pub(crate) fn own_id(&self) -> Bytes {
        self.request.id()
    }

    /// Sends the client's answer: what follows the id in its message, which begins with a comma.
    pub(crate) async fn answer(&self, rest: &[u8]) {
        let mut body = BytesMut::from(&b"{\"jsonrpc\":\"2.0\",\"id\":"[..]);
        body.put_slice(&self.request.id());
        body.put_slice(rest);
        self.upstreams.send(&self.target, &self.session, body.freeze()).await;
    }

    /// Sends what the client reports of its progress: the members of `params` besides the token, each with a comma before it.
    pub(crate) async fn progress(&self, members: &[u8]) {
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
        // A server that sends requests faster than it accepts answers gets none.
        if self.session.side_messages.available_permits() > 0 {
            tokio::spawn(async move { self.answer(&rest).await });
        }
    }
}
