//! One stream of events: sent, kept while its connection is broken, and sent again.

use std::{collections::VecDeque, sync::Arc};

use aws_lc_rs::aead::NONCE_LEN;
use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, Stream, StreamExt as _};
use service_kit::turns::SHORT;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use super::{GRACE, Resumable, ended::Ended, event::Event};
use crate::{
    mcp::{
        body,
        call::{Messages, Next},
    },
    upstream::push_event,
};

/// What was sent is kept, since it may not have arrived: this many of the latest events, and this many bytes of all but the last.
const SENT: usize = 64;
const SENT_BYTES: usize = 128 << 10;
/// When a client should ask for the rest of a stream that broke.
const RETRY: &str = "retry: 1000\n";

/// A stream, in the hands of whoever sends or keeps it. If that drops it, its call is cancelled.
pub(in crate::mcp) struct Live {
    /// `None`: the last event has been received.
    messages: Option<Messages>,
    latest: VecDeque<Event>,
    bytes: usize,
    of: Arc<Resumable>,
    stream: u64,
    next_number: u64,
    session: [u8; NONCE_LEN],
    subject: Arc<str>,
    /// Set once the stream can be asked for.
    wanted: Option<mpsc::Receiver<oneshot::Sender<Self>>>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl Live {
    /// The stream of these messages, for the client of this session.
    pub(in crate::mcp) fn new(
        messages: Messages,
        of: &Arc<Resumable>,
        session: [u8; NONCE_LEN],
        subject: &Arc<str>,
    ) -> Self {
        Self {
            messages: Some(messages),
            latest: VecDeque::new(),
            bytes: 0,
            of: Arc::clone(of),
            stream: of.number(),
            next_number: 1,
            session,
            subject: Arc::clone(subject),
            wanted: None,
        }
    }

    /// One that has ended, with its last events.
    pub(super) fn ended(
        of: &Arc<Resumable>,
        session: [u8; NONCE_LEN],
        stream: u64,
        subject: Arc<str>,
        latest: VecDeque<Event>,
    ) -> Self {
        Self {
            messages: None,
            latest,
            bytes: 0,
            of: Arc::clone(of),
            stream,
            next_number: 0,
            session,
            subject,
            wanted: None,
        }
    }

    /// Whether something follows this event.
    pub(super) fn goes_on(&self, behind: u64) -> bool {
        self.messages.is_some() || self.latest.iter().any(|event| event.number > behind)
    }

    /// Takes in what was received.
    fn take(&mut self, next: Next) {
        let pieces = match next {
            Next::Notification(message) => vec![message],
            Next::Last(pieces) => {
                self.messages = None;
                pieces.into_iter().filter(|piece| !piece.is_empty()).collect()
            }
            Next::End => {
                self.messages = None;
                return;
            }
        };
        let size = pieces.iter().map(Bytes::len).sum();
        self.push(pieces, size);
        // Whatever is not over with its first event may last.
        if self.messages.is_some() {
            self.become_known();
        }
    }

    fn push(&mut self, message: Vec<Bytes>, size: usize) {
        let number = self.next_number;
        self.next_number += 1;
        let id = format!("id: {}\n", self.id(number));
        let pieces = if size > SHORT {
            // A large message is sent in its own pieces. They hold their room until they are sent, also where a copy is sent.
            std::iter::once(id.into()).chain(message).collect()
        } else {
            let mut event = BytesMut::with_capacity(size + id.len() + 32);
            event.extend_from_slice(id.as_bytes());
            push_event(&mut event, &message.iter().map(|piece| &piece[..]).collect::<Vec<_>>());
            vec![event.freeze()]
        };
        // The last event stays, however long it is.
        self.bytes += self.latest.back().map_or(0, |last| last.size);
        while self.latest.len() >= SENT || self.bytes > SENT_BYTES {
            let Some(first) = self.latest.pop_front() else { break };
            self.bytes -= first.size.min(self.bytes);
        }
        self.latest.push_back(Event { number, pieces, size });
    }

    fn id(&self, number: u64) -> String {
        format!("{}-{:x}-{number:x}", self.of.replica, self.stream)
    }

    /// The events behind the one of this number, and those that follow. `primed`: the client first gets an id to go on from.
    pub(in crate::mcp) fn into_events(self, behind: u64, primed: bool) -> impl Stream<Item = Bytes> + Send + 'static {
        let mut sending = Sending {
            live: Some(self),
            all_sent: false,
        };
        async_stream::stream! {
            // Whatever is there already may be all: then there is nothing to go on with.
            if let Some(live) = &mut sending.live
                && let Some(next) = received(&mut live.messages).now_or_never()
            {
                live.take(next);
            }
            if primed
                && let Some(live) = &mut sending.live
                && live.messages.is_some()
            {
                live.become_known();
                yield format!("id: {}\n{RETRY}data:\n\n", live.id(0)).into();
            }
            let mut behind = behind;
            loop {
                let Some(live) = &mut sending.live else { return };
                let Some(event) = live.latest.iter().find(|event| event.number > behind).cloned() else {
                    if live.messages.is_none() {
                        sending.has_sent_all();
                        return;
                    }
                    let Live { messages, wanted, .. } = &mut *live;
                    let came = tokio::select! {
                        next = received(messages) => Ok(next),
                        Some(give) = asked_for(wanted) => Err(give),
                    };
                    match came {
                        Ok(next) => live.take(next),
                        Err(give) => {
                            sending.give(give);
                            return;
                        }
                    }
                    continue;
                };
                behind = event.number;
                if let [whole] = &event.pieces[..] {
                    yield whole.clone();
                    continue;
                }
                let mut message = event.pieces;
                let mut event = Box::pin(body::event(message.remove(0), message));
                while let Some(piece) = event.next().await {
                    yield piece;
                }
            }
        }
    }

    fn become_known(&mut self) {
        if self.wanted.is_none() {
            self.wanted = Some(self.of.know(self.stream, self.session));
        }
    }

    /// Goes on to receive, until the client asks for the stream.
    async fn keep(mut self) {
        let over = Instant::now() + GRACE;
        loop {
            // Of what nobody reads, the upstream sends no more.
            let full = self.latest.len() >= SENT || self.bytes > SENT_BYTES;
            let receives = self.messages.is_some() && !full;
            let Self { messages, wanted, .. } = &mut self;
            let came = tokio::select! {
                next = received(messages), if receives => Ok(next),
                give = asked_for(wanted) => Err(give),
                () = sleep_until(over) => return,
            };
            match came {
                Ok(next) => self.take(next),
                Err(Some(give)) => {
                    // If the client is gone again, so is the call.
                    let _ = give.send(self);
                    return;
                }
                Err(None) => return,
            }
        }
    }
}

/// The next message. Nothing is lost if this is dropped before it is ready.
async fn received(of: &mut Option<Messages>) -> Next {
    match of {
        Some(messages) => messages.next().await,
        None => Next::End,
    }
}

/// Whoever asks for the stream. Never, if it cannot be asked for.
async fn asked_for(of: &mut Option<mpsc::Receiver<oneshot::Sender<Live>>>) -> Option<oneshot::Sender<Live>> {
    match of {
        Some(wanted) => wanted.recv().await,
        None => std::future::pending().await,
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.wanted.is_some() {
            self.of.forget(self.stream);
        }
    }
}

/// A stream that is being sent. If its connection breaks, it is kept; and for a moment where all was sent, which may not have arrived.
struct Sending {
    live: Option<Live>,
    all_sent: bool,
}

impl Sending {
    fn has_sent_all(&mut self) {
        self.all_sent = true;
    }

    fn give(&mut self, to: oneshot::Sender<Live>) {
        if let Some(live) = self.live.take() {
            // If nobody takes it, its call is cancelled.
            let _ = to.send(live);
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // Nobody has an id to ask for another with.
        let Some(live) = self.live.take().filter(|live| live.wanted.is_some()) else {
            return;
        };
        if live.messages.is_none() {
            let ended = Ended {
                stream: live.stream,
                session: live.session,
                subject: Arc::clone(&live.subject),
                events: live.latest.clone(),
            };
            if live.of.ended.keep(ended) || self.all_sent {
                return;
            }
        }
        let (Some(alone), Ok(runtime)) = (live.of.leave(&live.subject), tokio::runtime::Handle::try_current()) else {
            return;
        };
        runtime.spawn(async move {
            live.keep().await;
            drop(alone);
        });
    }
}
