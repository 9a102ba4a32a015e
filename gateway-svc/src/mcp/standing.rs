//! The stream that a client with a session holds open (GET): what concerns no call.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use service_kit::quota::InFlight;
use tokio::time::{Instant, sleep_until};

use super::{
    Mcp,
    asked::Questions,
    body::{self, COMMENT, KEEP_ALIVE},
    list::{Seen, ToolsWatch, may_hear},
    session::{Listening, Session},
};
use crate::{
    calls::Listener,
    domain::ConsumerRef,
    identity::Identified,
    upstream::{Heard, List, Revision, push_event},
};

/// Tokens that are good for longer do not end a stream.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A client that holds a stream open.
pub(super) struct Holder {
    pub(super) mcp: Arc<Mcp>,
    pub(super) identified: Identified,
    pub(super) consumer: ConsumerRef,
    pub(super) session: Arc<Session>,
    /// `Last-Event-ID`.
    pub(super) last_event: Option<String>,
    pub(super) open: InFlight,
    pub(super) listening: Listening,
}

/// The events: that the caller's list of tools has changed, and what servers say in the client's own sessions; and comments where nothing else comes
/// for long.
///
/// An event about tools has an id that names the list that the client was notified of, so that a client that reconnects with `Last-Event-ID`
/// learns what it missed, from any replica. The stream ends with its session, and when the caller's token is no longer valid.
pub(super) fn events(holder: Box<Holder>) -> impl Stream<Item = Bytes> + Send + 'static {
    async_stream::stream! {
        // By itself, since there are many streams, which have no room for how they began.
        let Some((mut standing, first)) = Box::pin(Standing::begin(holder)).await else { return };
        for event in first {
            yield event;
        }
        loop {
            let Some(next) = standing.next().await else { return };
            match next {
                Next::Event(event) => yield event,
                Next::Message(message) => {
                    // Most streams have none, and no room for one.
                    let mut event = Box::pin(body::event(Bytes::new(), [message]));
                    while let Some(piece) = event.next().await {
                        yield piece;
                    }
                }
            }
            standing.has_sent();
        }
    }
}

/// The stream once it has begun. There are many, of clients that are idle: this is small, and what it waits for, too.
struct Standing {
    mcp: Arc<Mcp>,
    tools: ToolsWatch,
    listener: Listener,
    listening: Listening,
    questions: Questions,
    /// When the caller's token is no longer valid.
    over: Instant,
    /// When a comment is due.
    silent: Instant,
    _open: InFlight,
}

/// What comes next on it.
enum Next {
    Event(Bytes),
    /// It becomes an event.
    Message(Bytes),
}

impl Standing {
    /// Also returns the first events; `None`: the caller may not see the tools.
    async fn begin(holder: Box<Holder>) -> Option<(Self, Vec<Bytes>)> {
        let Holder {
            mcp,
            identified,
            consumer,
            session,
            last_event,
            open,
            listening,
        } = *holder;
        let over = when_over(&mcp, &identified);
        let tasks = mcp.task_ids.of(&identified.subject, &consumer);
        let viewer = Arc::new((identified, consumer));
        let tools = ToolsWatch::new(Arc::clone(&mcp), Arc::clone(&viewer)).await?;
        let known = tools.known();
        let listener = mcp.calls.listen(&session.client(), may_hear(&mcp, &viewer));
        let mut first = Vec::new();
        first.push(
            match last_event.as_deref().and_then(|id| u64::from_str_radix(id, 16).ok()) {
                Some(told) if told != known => tools_changed(known),
                // Clients of older revisions fail on events without data.
                _ if session.revision >= Revision::V2025_11_25 => {
                    format!("id: {known:016x}\nretry: 3000\ndata:\n\n").into()
                }
                _ => Bytes::from_static(b": open\n\n"),
            },
        );
        if listening.is_from_elsewhere() {
            // What the client had subscribed to, and what servers have shown it alone, was known to another process, which may be gone.
            first.push(tools_changed(known));
            for list in [List::Prompts, List::Resources] {
                let mut event = BytesMut::new();
                push_event(&mut event, &[&list.changed()]);
                first.push(event.freeze());
            }
        }
        let standing = Self {
            questions: Questions::new(Arc::clone(&mcp.asked), session.id, tasks),
            mcp,
            tools,
            listener,
            listening,
            over,
            silent: Instant::now() + KEEP_ALIVE,
            _open: open,
        };
        Some((standing, first))
    }

    /// `None`: the stream ends. Nothing is lost if this is dropped before it is ready.
    async fn next(&mut self) -> Option<Next> {
        loop {
            let heard = tokio::select! {
                looked = self.tools.looked() => {
                    self.listener.look_again();
                    match looked? {
                        Seen::List(list) => return Some(Next::Event(tools_changed(list))),
                        Seen::SameList => continue,
                    }
                }
                heard = self.mcp.calls.hear(&mut self.listener) => heard?,
                // One timer for both.
                () = sleep_until(self.over.min(self.silent)) => {
                    return (self.silent < self.over).then_some(Next::Event(Bytes::from_static(COMMENT)));
                }
                () = self.listening.ended() => return None,
            };
            if let Some(message) = self.message(heard) {
                return Some(Next::Message(message));
            }
        }
    }

    /// What the client is told of what a server has said.
    fn message(&mut self, heard: Heard) -> Option<Bytes> {
        match heard {
            Heard::Changed(list) => Some(list.changed()),
            Heard::ToolsChanged(installation) => self.tools.shows_all(&installation).then(|| List::Tools.changed()),
            Heard::Notification { installation, text } => {
                Some(self.questions.tasks().notification(text, &installation))
            }
            Heard::Updated(updated) => {
                let (client, (identified, consumer)) = (self.listener.client(), &**self.tools.viewer());
                let calls = &self.mcp.calls;
                let uri = calls.exposed_uri(client, &identified.subject, consumer, &updated, |_| true);
                uri.map(|uri| updated.message(&uri, b""))
            }
            Heard::Request(asking) => self.questions.ask(asking),
            Heard::Withdrawn { text, id } => self.questions.withdraw(&text, id),
            // Of a client without a session.
            Heard::Progress(_) => None,
        }
    }

    /// The client has been sent something.
    fn has_sent(&mut self) {
        self.silent = Instant::now() + KEEP_ALIVE;
    }
}

/// When the caller's token is no longer valid.
pub(super) fn when_over(mcp: &Mcp, identified: &Identified) -> Instant {
    Instant::now() + mcp.identity.remaining(identified).unwrap_or(YEAR).min(YEAR)
}

fn tools_changed(list: u64) -> Bytes {
    let mut event = BytesMut::from(format!("id: {list:016x}\n").as_bytes());
    push_event(&mut event, &[&List::Tools.changed()]);
    event.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest part of what an idle session costs (`integration-tests/benches/proxy`). What a client is sent when its stream begins, or when something
    /// happens, is in a box of its own.
    #[test]
    fn a_stream_that_waits_has_less_than_a_kilobyte() {
        const fn size<S>(_: fn(Box<Holder>) -> S) -> usize {
            size_of::<S>()
        }
        let size = size(events);
        assert!(size < 1000, "{size}");
    }
}
