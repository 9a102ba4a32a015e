//! Reading what an upstream answers, within all limits.

use std::{future::poll_fn, pin::Pin, time::Duration};

use bytes::{Bytes, BytesMut};
use service_kit::turns::{SHORT, off_thread};
use tokio::time::{Instant, timeout_at};

use super::{
    body::BodyError,
    error::UpstreamError,
    message::{Message, Outgoing},
    pool::Body,
    room::{FREE, Room},
    target::Target,
    upstreams::Upstreams,
};

impl Upstreams {
    /// Waits for room for an answer to this request of at most this many bytes.
    pub(super) async fn room(&self, target: &Target, request: &Outgoing, bytes: usize) -> Result<Room, UpstreamError> {
        match &request.caller {
            Some(caller) => self.inner.rooms.take(caller, bytes, request.together.as_deref()).await,
            None => self.inner.own_rooms.take(target.installation(), bytes, None).await,
        }
    }

    /// Parses a message that is an answer to this request. Of long messages, one of each caller's is parsed at a time.
    pub(super) async fn parse(
        &self,
        text: Bytes,
        target: &Target,
        request: &Outgoing,
    ) -> Result<Message, UpstreamError> {
        if text.len() <= SHORT {
            return Message::parse(text, request, false);
        }
        let whose = request.caller.as_ref().unwrap_or_else(|| target.installation());
        let _turn = self.inner.turns.take(text.len(), whose).await;
        let request = request.clone();
        off_thread(text.len(), move || Message::parse(text, &request, false)).await
    }

    /// Reads a whole body, within all limits.
    pub(super) async fn read(
        &self,
        mut body: Body,
        deadline: Instant,
        target: &Target,
        request: &Outgoing,
    ) -> Result<Bytes, UpstreamError> {
        let idle = self.limits().idle;
        // A body that takes no room is received into one buffer, where its length is stated.
        let length = http_body::Body::size_hint(&body).exact();
        if length.is_some_and(|length| length <= FREE as u64) {
            while body.missing() > 0 {
                let more = poll_fn(|cx| body.poll_missing(cx));
                self.in_time(more, deadline, idle, target).await?;
            }
        }
        // What is there is not waited for: it needs neither a timer nor a look at the clock.
        let first = match body.take_whole() {
            // The memory that it is part of has little else: the head, at most.
            Some(whole) if whole.len() <= FREE.min(self.limits().max_message) => return Ok(whole),
            Some(whole) => Some(whole),
            None => self.next_data(&mut body, deadline, idle, target).await?,
        };
        match first {
            Some(first) => self.read_on(first, &mut body, deadline, target, request).await,
            None => Ok(Bytes::new()),
        }
    }

    /// Reads the rest of a body that begins with `first`.
    pub(super) async fn read_on(
        &self,
        first: Bytes,
        body: &mut Body,
        deadline: Instant,
        target: &Target,
        request: &Outgoing,
    ) -> Result<Bytes, UpstreamError> {
        let most = self.limits().max_message;
        if first.len() > most {
            return Err(self.too_large());
        }
        // A declared length was checked; a body that is longer than declared ends the exchange.
        let stated = http_body::Body::size_hint(body)
            .exact()
            .and_then(|rest| Some(first.len() + usize::try_from(rest).ok()?));
        let mut room = match stated {
            Some(length) if length > FREE => Some(self.room(target, request, length).await?),
            _ => None,
        };
        let held = |room: Option<Room>, whole| match room {
            Some(room) => room.hold(whole),
            None => whole,
        };
        let Some(second) = self.next_data(body, deadline, self.limits().idle, target).await? else {
            // A short piece may be part of a much larger buffer of the connection.
            let whole = if first.len() <= SHORT {
                Bytes::copy_from_slice(&first)
            } else {
                first
            };
            return Ok(held(room, whole));
        };
        let expected = stated.unwrap_or((first.len() + second.len()) * 2);
        let mut whole = BytesMut::with_capacity(expected.min(most));
        whole.extend_from_slice(&first);
        let mut next = Some(second);
        let mut turn = 0;
        while let Some(data) = next {
            // A server that sends faster than it is read is never waited for.
            turn += data.len();
            if turn > SHORT {
                turn = 0;
                tokio::task::yield_now().await;
            }
            let length = whole.len() + data.len();
            if length > most {
                return Err(self.too_large());
            }
            if length > FREE && room.is_none() {
                room = Some(self.room(target, request, most).await?);
            }
            whole.extend_from_slice(&data);
            next = self.next_data(body, deadline, self.limits().idle, target).await?;
        }
        Ok(held(room, whole.freeze()))
    }

    /// The next piece of a body, after a silence of at most `idle`; `None` at its end.
    pub(super) async fn next_data(
        &self,
        body: &mut Body,
        deadline: Instant,
        idle: Duration,
        target: &Target,
    ) -> Result<Option<Bytes>, UpstreamError> {
        use http_body::Body as _;
        loop {
            if body.is_end_stream() {
                return Ok(None);
            }
            let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx).map(Option::transpose));
            let Some(frame) = self.in_time(frame, deadline, idle, target).await? else {
                return Ok(None);
            };
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
    }

    /// What comes next of a body, after a silence of at most `idle`.
    async fn in_time<T>(
        &self,
        next: impl Future<Output = Result<T, BodyError>>,
        deadline: Instant,
        idle: Duration,
        target: &Target,
    ) -> Result<T, UpstreamError> {
        let late = |within| UpstreamError::Timeout {
            what: "finish its answer",
            within,
        };
        let now = Instant::now();
        if now >= deadline {
            // Otherwise data that is already there would still be read: from a server that never stops, or after a client that read slowly.
            return Err(late(self.limits().total));
        }
        let until = now.checked_add(idle).map_or(deadline, |until| deadline.min(until));
        match timeout_at(until, next).await {
            Ok(next) => next.map_err(|error| UpstreamError::broken(&error, &target.key.endpoint, error.what())),
            Err(_) if until == deadline => Err(late(self.limits().total)),
            Err(_) => Err(late(idle)),
        }
    }

    pub(super) fn too_large(&self) -> UpstreamError {
        UpstreamError::invalid(format!("it is larger than {} bytes", self.limits().max_message))
    }
}
