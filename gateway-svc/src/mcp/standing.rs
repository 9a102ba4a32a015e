//! The stream that a client with a session holds open (GET): what concerns no call.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use service_kit::quota::InFlight;
use tokio::time::{Instant, sleep_until};

use super::{
    Mcp,
    asked::Questions,
    body,
    list::{Seen, ToolsWatch, may_hear},
    session::{Listening, Session},
};
use crate::{
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
    pub(super) session: Session,
    /// `Last-Event-ID`.
    pub(super) last_event: Option<String>,
    pub(super) open: InFlight,
    pub(super) listening: Listening,
}

/// The events: that the caller's list of tools has changed, and what servers say in the client's own sessions.
///
/// An event about tools has an id that names the list that the client was notified of, so that a client that reconnects with `Last-Event-ID`
/// learns what it missed, from any replica. The stream ends with its session, and when the caller's token is no longer valid.
pub(super) fn events(holder: Box<Holder>) -> impl Stream<Item = Bytes> + Send + 'static {
    async_stream::stream! {
        let Holder { mcp, identified, consumer, session, last_event, open, listening } = *holder;
        let _open = open;
        let over = when_over(&mcp, &identified);
        let subject = Arc::clone(&identified.subject);
        let viewer = Arc::new((identified, consumer.clone()));
        let watch = Box::pin(ToolsWatch::new(Arc::clone(&mcp), Arc::clone(&viewer)));
        let Some(mut tools) = watch.await else { return };
        let known = tools.known();
        let mut listener = mcp.calls.listen(&session.client(), may_hear(&mcp, &viewer));
        drop(viewer);
        match last_event.as_deref().and_then(|id| u64::from_str_radix(id, 16).ok()) {
            Some(told) if told != known => yield tools_changed(known),
            // Clients of older revisions fail on events without data.
            _ if session.revision >= Revision::V2025_11_25 => yield format!("id: {known:016x}\nretry: 3000\ndata:\n\n").into(),
            _ => yield Bytes::from_static(b": open\n\n"),
        }
        if listening.is_from_elsewhere() {
            // What the client had subscribed to, and what servers have shown it alone, was known to another process, which may be gone.
            yield tools_changed(known);
            for list in [List::Prompts, List::Resources] {
                let mut event = BytesMut::new();
                push_event(&mut event, &[&list.changed()]);
                yield event.freeze();
            }
        }
        let tasks = mcp.task_ids.of(&subject, &consumer);
        let mut questions = Questions::new(Arc::clone(&mcp.asked), session.id, tasks);
        loop {
            let heard = tokio::select! {
                looked = tools.looked() => {
                    listener.look_again();
                    match looked {
                        Some(Seen::List(list)) => yield tools_changed(list),
                        Some(Seen::SameList) => {}
                        None => return,
                    }
                    continue;
                }
                heard = mcp.calls.hear(&mut listener) => heard,
                () = sleep_until(over) => return,
                () = listening.ended() => return,
                () = mcp.stop.cancelled() => return,
            };
            let Some(heard) = heard else { return };
            let message = match heard {
                Heard::Changed(list) => Some(list.changed()),
                Heard::ToolsChanged(installation) => tools.shows_all(&installation).then(|| List::Tools.changed()),
                Heard::Notification { installation, text } => Some(questions.tasks().notification(text, &installation)),
                Heard::Updated(updated) => {
                    let uri = mcp.calls.exposed_uri(&session.client(), &subject, &consumer, &updated, |_| true);
                    uri.map(|uri| updated.message(&uri, b""))
                }
                Heard::Request(asking) => questions.ask(asking),
                Heard::Withdrawn { text, id } => questions.withdraw(&text, id),
                // Of a client without a session.
                Heard::Progress(_) => None,
            };
            if let Some(message) = message {
                // Most streams have none, and no room for one.
                let mut event = Box::pin(body::event([message]));
                while let Some(piece) = event.next().await {
                    yield piece;
                }
            }
        }
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
