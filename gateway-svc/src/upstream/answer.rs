//! An upstream's answer: one message, or a stream of messages that ends with one.

pub(super) mod rest;
mod resume;

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use service_kit::{cancel::Cancel, turns::SHORT};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use self::resume::Resumed;
use super::{
    asking::Asking,
    client::{Client, Era},
    error::UpstreamError,
    message::{List, Message, Outgoing, Reply, ServerRequest},
    pending::Pending,
    pool::Body,
    progress::Progress,
    room::{FREE, Room},
    session::Session,
    sse::{BOM, Events},
    target::Target,
    upstreams::Upstreams,
};

/// This many requests of an upstream are answered at once during one call, and one more each time [`A_REQUEST`] has passed; each
/// answer costs a request.
const MAX_REQUESTS: u32 = 64;
const A_REQUEST: Duration = Duration::from_secs(1);

/// An answer that has begun.
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart at once, and most are the large one"
)]
pub(super) enum Started {
    /// The reply has come, as JSON.
    Whole {
        session: Arc<Session>,
        request: Outgoing,
        reply: Reply,
    },
    /// A stream that ends with the reply.
    Events(Box<Answers>),
}

/// After this much of a stream, the task yields to others. A server that never stops sends faster than it is read: data is always
/// there, and the task would never wait.
const TURN: usize = SHORT;

/// White space, or a part of a byte order mark.
fn is_blank(byte: &u8) -> bool {
    byte.is_ascii_whitespace() || BOM.contains(byte)
}

async fn unless_cancelled<T>(
    cancel: &Cancel,
    work: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, UpstreamError> {
    cancel
        .run_until_cancelled(work)
        .await
        .unwrap_or(Err(UpstreamError::Cancelled))
}

/// One message of a stream.
#[derive(Debug)]
pub(crate) enum Event {
    /// A notification for the client, ready to be passed on.
    Notification(Bytes),
    /// The progress of another request than the one that is answered.
    Progress(Progress),
    /// A list of the upstream's has changed.
    ListChanged(List),
    /// The upstream withdraws a request of its own: the notification, and where the id of that is in it.
    Withdrawn {
        /// `notifications/cancelled`, verbatim.
        text: Bytes,
        /// Where the id is that the upstream knows its request by.
        id: Range<usize>,
    },
    /// A request of the upstream's own, for the client.
    Request(Asking),
    /// The reply; nothing follows.
    Reply(Reply),
}

impl Event {
    pub(super) const fn is_reply(&self) -> bool {
        matches!(self, Self::Reply(_))
    }
}

/// A stream that ends with the reply.
pub(crate) struct Answers {
    pending: Pending,
    session: Arc<Session>,
    request: Outgoing,
    /// `None` once this is dropped.
    body: Option<Body>,
    deadline: Instant,
    cancel: Cancel,
    events: Events,
    /// Received, not yet examined.
    came: Bytes,
    /// The data of an event, not yet judged.
    unjudged: Option<Bytes>,
    /// Something has been received that is not blank.
    begun: bool,
    received: usize,
    /// How much was read since the task last yielded.
    turn: usize,
    resumed: Resumed,
    /// When the last counted request of the upstream's own expires.
    asked_until: Instant,
    /// The room of the event that is being received, where it is long.
    room: Option<Room>,
    /// The reply has come: what is left of the stream is its end.
    replied: bool,
    /// The longest silence.
    idle: Duration,
    _permit: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers")
            .field("target", &self.pending.target)
            .finish_non_exhaustive()
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        if let Some(body) = self.body.take_if(|_| self.replied) {
            rest::read(body);
        }
    }
}

impl Answers {
    pub(super) fn new(
        pending: Pending,
        session: Arc<Session>,
        request: Outgoing,
        body: Body,
        deadline: Instant,
        cancel: Cancel,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let (events, idle) = (Events::default(), pending.upstreams.limits().idle);
        Self {
            pending,
            session,
            request,
            body: Some(body),
            deadline,
            cancel,
            events,
            came: Bytes::new(),
            unjudged: None,
            begun: false,
            received: 0,
            turn: 0,
            resumed: Resumed::default(),
            asked_until: Instant::now(),
            room: None,
            replied: false,
            idle,
            _permit: permit,
        }
    }

    /// A stream that stays open, however long its server is silent.
    pub(super) fn standing(mut self) -> Self {
        self.idle = Duration::MAX;
        self
    }

    /// What came so far does not count towards the longest stream.
    pub(super) fn forget_length(&mut self) {
        self.received = 0;
    }

    pub(super) fn target(&self) -> &Target {
        &self.pending.target
    }

    pub(super) fn whose(&self) -> (Upstreams, Arc<Target>, Arc<Session>) {
        let Pending { upstreams, target, .. } = &self.pending;
        (upstreams.clone(), Arc::clone(target), Arc::clone(&self.session))
    }

    /// The request that is answered.
    pub(super) fn request(&self) -> &Outgoing {
        &self.request
    }

    /// Whether the server speaks a newer revision than the client.
    pub(super) fn is_for_older_client(&self) -> bool {
        self.session.is_newer_than(self.request.era)
    }

    /// The next message. Must not be called again after the reply or an error.
    pub(crate) async fn next(&mut self) -> Result<Event, UpstreamError> {
        loop {
            // Nothing is taken out yet that would be lost if this future is dropped.
            if self.turn >= TURN {
                self.turn = 0;
                tokio::task::yield_now().await;
            }
            if let Some(data) = self.unjudged.clone() {
                // It stays until it is judged: this future may be dropped meanwhile.
                let judged = self.judge(data).await;
                self.unjudged = None;
                match judged? {
                    Some(event) => return Ok(event),
                    None => continue,
                }
            }
            if let Some(data) = self.events.next() {
                let data = match self.room.take() {
                    Some(room) => room.hold(data),
                    None => data,
                };
                if !data.iter().all(u8::is_ascii_whitespace) {
                    self.unjudged = Some(data);
                }
                continue;
            }
            if !self.came.is_empty() {
                let length = self.came.len().min(TURN);
                self.take_room(length).await?;
                let piece = self.came.split_to(length);
                self.turn += length;
                self.events
                    .push(piece, self.pending.upstreams.limits().max_message)
                    .map_err(|_| self.pending.upstreams.too_large())?;
                continue;
            }
            let Some(data) = self.read().await? else {
                if Box::pin(self.resume()).await? {
                    continue;
                }
                self.pending.settle();
                return Err(UpstreamError::invalid("its stream ended before the answer"));
            };
            self.received = self.received.saturating_add(data.len());
            if self.received > self.pending.upstreams.limits().max_stream {
                return Err(self.pending.upstreams.too_large());
            }
            if !self.begun
                && let Some(start) = data.iter().position(|byte| !is_blank(byte))
            {
                self.begun = true;
                // Some servers announce a stream and send bare JSON.
                if data[start] == b'{' {
                    return Box::pin(self.bare(data.slice(start..))).await;
                }
            }
            self.came = data;
        }
    }

    /// The next piece; `None` at the end.
    async fn read(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        let Pending { upstreams, target, .. } = &self.pending;
        let Some(body) = &mut self.body else { return Ok(None) };
        let read = upstreams.next_data(body, self.deadline, self.idle, target);
        let read = unless_cancelled(&self.cancel, read).await;
        self.tell_if_cancelled(read)
    }

    /// Waits for room if the event that is being received becomes long by `more` bytes.
    async fn take_room(&mut self, more: usize) -> Result<(), UpstreamError> {
        let Pending { upstreams, target, .. } = &self.pending;
        if self.events.unfinished() + more <= FREE {
            // The long event has ended, and was not a message.
            self.room = None;
        } else if self.room.is_none() {
            let room = upstreams.room(target, &self.request, upstreams.limits().max_message);
            let room = unless_cancelled(&self.cancel, room).await;
            self.room = Some(self.tell_if_cancelled(room)?);
        }
        Ok(())
    }

    async fn bare(&mut self, start: Bytes) -> Result<Event, UpstreamError> {
        let Pending { upstreams, target, .. } = &self.pending;
        let Some(body) = &mut self.body else {
            return Err(UpstreamError::Cancelled);
        };
        let whole = upstreams.read_on(start, body, self.deadline, target, &self.request);
        let whole = unless_cancelled(&self.cancel, whole).await;
        let whole = self.tell_if_cancelled(whole)?;
        self.judge(whole)
            .await?
            .ok_or_else(|| UpstreamError::invalid("it is not an answer to the request"))
    }

    /// Tells the upstream if that was cancelled.
    fn tell_if_cancelled<T>(&mut self, result: Result<T, UpstreamError>) -> Result<T, UpstreamError> {
        if matches!(result, Err(UpstreamError::Cancelled)) {
            self.pending.cancel();
        }
        result
    }

    async fn judge(&mut self, data: Bytes) -> Result<Option<Event>, UpstreamError> {
        let Pending { upstreams, target, .. } = &self.pending;
        Ok(match upstreams.parse(data, target, &self.request).await? {
            Message::Reply(reply) => {
                self.pending.answered(Some(&reply));
                self.replied = true;
                Some(Event::Reply(reply))
            }
            Message::Notification(message) => Some(Event::Notification(message)),
            Message::Progress(progress) => self.progress_of_another(progress),
            Message::ListChanged(list) => Some(Event::ListChanged(list)),
            Message::Withdrawn { text, id } => Some(Event::Withdrawn { text, id }),
            Message::Nothing => None,
            Message::Request(request) => {
                // Further requests are not answered; the call goes on.
                let now = Instant::now();
                let asked_until = self.asked_until.max(now) + A_REQUEST;
                if asked_until > now + A_REQUEST * MAX_REQUESTS {
                    return Ok(None);
                }
                self.asked_until = asked_until;
                self.asked(request)
            }
        })
    }

    /// The progress of another request: of one that has become a task, or that is under way beside a stream that belongs to none.
    fn progress_of_another(&self, progress: Progress) -> Option<Event> {
        let Pending { upstreams, target, .. } = &self.pending;
        match target.client()? {
            Client::Session(_) => Some(Event::Notification(upstreams.inner.tokens.shown(target, &progress)?)),
            Client::Stateless { .. } if self.request.method.is_empty() => Some(Event::Progress(progress)),
            _ => None,
        }
    }

    /// A request of the upstream's own: for the client, where that has the session alone and has said what it can be asked.
    fn asked(&self, request: ServerRequest) -> Option<Event> {
        // A modern server sends none.
        if self.session.era == Era::Modern {
            return None;
        }
        let method = request.method.clone();
        let (upstreams, target) = (self.pending.upstreams.clone(), Arc::clone(&self.pending.target));
        let has_client = target.speaks_for_client();
        let asking = Asking::new(request, upstreams, target, Arc::clone(&self.session));
        match &*method {
            "ping" => asking.pong(),
            // The client's capabilities say so, too.
            "tasks/list" => asking.refuse("this client has tasks of several servers, and lists them to none"),
            _ if has_client => return Some(Event::Request(asking)),
            _ => asking.refuse("this client takes no requests but ping"),
        }
        None
    }
}
