//! An upstream's answer: one message, or a stream of messages that ends with one.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use service_kit::turns::off_thread;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    error::UpstreamError,
    exchange::Open,
    message::{Message, Outgoing, Reply},
    pool::Body,
    session::Session,
    sse::Events,
};

/// An upstream may ask us so often during one call; each time costs a request.
const MAX_REQUESTS: u32 = 64;

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The reply, as JSON.
    Whole(Reply),
    /// A stream that ends with the reply.
    Stream(Box<Answers>),
}

/// After so much of a stream, others have their turn. A server that never stops sends faster than it is read: what has come is always
/// there, and nothing would be waited for.
const TURN: usize = 32 << 10;

/// One message of a stream.
#[derive(Debug)]
pub(crate) enum Event {
    /// A notification for the client, ready to be passed on.
    Notification(Bytes),
    /// The upstream's list of tools has changed.
    ToolsChanged,
    /// The reply; nothing follows.
    Reply(Reply),
}

/// A stream that ends with the reply.
pub(crate) struct Answers {
    open: Open,
    session: Arc<Session>,
    request: Outgoing,
    body: Body,
    deadline: Instant,
    cancel: CancellationToken,
    events: Events,
    /// What has come and was not looked at.
    came: Bytes,
    begun: bool,
    received: usize,
    /// How much was read since others had their turn.
    turn: usize,
    requests: u32,
    _permit: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers")
            .field("target", &self.open.target)
            .finish_non_exhaustive()
    }
}

impl Answers {
    pub(super) fn new(
        open: Open,
        session: Arc<Session>,
        request: Outgoing,
        body: Body,
        deadline: Instant,
        cancel: CancellationToken,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let events = Events::default();
        Self {
            open,
            session,
            request,
            body,
            deadline,
            cancel,
            events,
            came: Bytes::new(),
            begun: false,
            received: 0,
            turn: 0,
            requests: 0,
            _permit: permit,
        }
    }

    /// The next message. Not to be asked again after the reply or an error.
    pub(crate) async fn next(&mut self) -> Result<Event, UpstreamError> {
        loop {
            // Nothing is taken out yet that would be lost if nobody asked any more.
            if self.turn >= TURN {
                self.turn = 0;
                tokio::task::yield_now().await;
            }
            if let Some(data) = self.events.next() {
                if let Some(event) = self.judge(data).await? {
                    return Ok(event);
                }
                continue;
            }
            if !self.came.is_empty() {
                let piece = self.came.split_to(self.came.len().min(TURN));
                self.turn += piece.len();
                self.events
                    .push(&piece, self.open.upstreams.limits().max_message)
                    .map_err(|_| self.open.upstreams.too_large())?;
                continue;
            }
            let Some(data) = self.read().await? else {
                self.open.is_over();
                return Err(UpstreamError::invalid("its stream ended before the answer"));
            };
            self.received = self.received.saturating_add(data.len());
            if self.received > self.open.upstreams.limits().max_stream {
                return Err(self.open.upstreams.too_large());
            }
            if !self.begun {
                self.begun = true;
                // Some servers announce a stream and send bare JSON.
                if data.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') {
                    return self.bare(data).await;
                }
            }
            self.came = data;
        }
    }

    /// The next piece; `None` at the end.
    async fn read(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        tokio::select! {
            data = self.open.upstreams.next_data(&mut self.body, self.deadline) => data,
            () = self.cancel.cancelled() => {
                self.open.cancel();
                Err(UpstreamError::Cancelled)
            }
        }
    }

    async fn bare(&mut self, start: Bytes) -> Result<Event, UpstreamError> {
        let mut whole = BytesMut::from(start);
        while let Some(data) = self.read().await? {
            if whole.len() + data.len() > self.open.upstreams.limits().max_message {
                return Err(self.open.upstreams.too_large());
            }
            whole.put_slice(&data);
        }
        self.judge(whole.freeze())
            .await?
            .ok_or_else(|| UpstreamError::invalid("it is no answer to the request"))
    }

    async fn judge(&mut self, data: Bytes) -> Result<Option<Event>, UpstreamError> {
        let request = self.request.clone();
        let message = off_thread(data.len(), move || Message::parse(data, &request, false)).await?;
        Ok(match message {
            Message::Reply(reply) => {
                self.open.is_over();
                Some(Event::Reply(reply))
            }
            Message::Notification(message) => Some(Event::Notification(message)),
            Message::ToolsChanged => Some(Event::ToolsChanged),
            Message::Nothing => None,
            Message::Request { method, id } => {
                self.requests += 1;
                if self.requests > MAX_REQUESTS {
                    return Err(UpstreamError::invalid("it sends too many requests of its own"));
                }
                self.respond(&method, &id);
                None
            }
        })
    }

    /// Answers a request of the upstream, in the background: it declared to us that it would send none but pings.
    fn respond(&self, method: &str, id: &[u8]) {
        let mut body = BytesMut::from(&b"{\"jsonrpc\":\"2.0\",\"id\":"[..]);
        body.put_slice(id);
        body.put_slice(match method {
            "ping" => b",\"result\":{}}",
            _ => b",\"error\":{\"code\":-32601,\"message\":\"this client takes no requests but ping\"}}",
        });
        let (upstreams, target, session) = (
            self.open.upstreams.clone(),
            Arc::clone(&self.open.target),
            Arc::clone(&self.session),
        );
        // A server that asks faster than it takes answers gets none.
        if session.asides.available_permits() > 0 {
            tokio::spawn(async move { upstreams.send(&target, &session, body.freeze()).await });
        }
    }
}
