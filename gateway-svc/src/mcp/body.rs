//! Response bodies: streams of events.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use http::{
    HeaderValue,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use service_kit::turns::{SHORT, off_thread};
use tokio::time::sleep;

use crate::upstream::{EVENT, EVENT_ENDS, in_one_line, push_event};

/// Short pieces of a large event up to this size together are sent as one.
const JOIN: usize = 8 << 10;
/// After this silence a comment is sent, so that no intermediary closes the stream as idle.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);
pub(super) const COMMENT: &[u8] = b": keep-alive\n\n";

/// 200 with a stream of events, with comments where nothing else comes for long.
pub(super) fn events(events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    // A stream that takes another by value has room for it twice.
    events_and_comments(keep_alive(Box::pin(events), || sleep(KEEP_ALIVE)))
}

/// 200 with a stream of events that has such comments.
pub(super) fn events_and_comments(events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let mut response = Body::from_stream(events.map(Ok::<_, Infallible>)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Messages, each in pieces, as server-sent events.
pub(super) fn as_events<P: AsRef<[Bytes]> + Send + 'static>(
    messages: impl Stream<Item = P> + Send + 'static,
) -> impl Stream<Item = Bytes> + Send + 'static {
    messages.flat_map(|message| event(Bytes::new(), message))
}

/// A message, in pieces, as one event that begins with these fields. It ends with [`EVENT_ENDS`].
pub(super) fn event<P: AsRef<[Bytes]> + Send + 'static>(
    fields: Bytes,
    message: P,
) -> impl Stream<Item = Bytes> + Send + 'static {
    async_stream::stream! {
        let pieces = message.as_ref();
        let length: usize = pieces.iter().map(Bytes::len).sum();
        if length > SHORT {
            // A large message is sent in its own pieces, the short ones of them joined. They hold their room until they are sent, also where a copy is sent.
            let mut joined = BytesMut::from(fields);
            joined.extend_from_slice(EVENT);
            for piece in pieces {
                let piece = piece.clone();
                let piece = off_thread(piece.len(), || in_one_line(piece)).await;
                if joined.len() + piece.len() <= JOIN {
                    joined.extend_from_slice(&piece);
                    continue;
                }
                if !joined.is_empty() {
                    yield joined.split().freeze();
                }
                yield piece;
            }
            joined.extend_from_slice(EVENT_ENDS);
            yield joined.freeze();
        } else {
            let mut event = BytesMut::with_capacity(fields.len() + length + 32);
            event.extend_from_slice(&fields);
            let parts: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
            push_event(&mut event, &parts);
            yield event.freeze();
        }
    }
}

/// Adds a comment wherever `silence`, begun anew after each item, ends before the next item comes.
fn keep_alive<S: Future<Output = ()> + Send + 'static>(
    events: impl Stream<Item = Bytes> + Send + 'static,
    silence: impl Fn() -> S + Send + 'static,
) -> impl Stream<Item = Bytes> + Send + 'static {
    async_stream::stream! {
        let mut events = std::pin::pin!(events);
        let mut silent = std::pin::pin!(silence());
        // A large event is sent in pieces, and nothing may come between them.
        let mut between = true;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => {
                        between = event.ends_with(EVENT_ENDS);
                        if between {
                            silent.set(silence());
                        }
                        yield event;
                    }
                    None => return,
                },
                () = &mut silent, if between => {
                    silent.set(silence());
                    yield Bytes::from_static(COMMENT);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_large_message_is_sent_uncopied_with_what_is_around_it_joined() {
        let [fields, start, id, end] =
            ["id: a-1-1\n", "{\"id\":", "1", "\n}"].map(|text| Bytes::from_static(text.as_bytes()));
        let large = Bytes::from(vec![b' '; 2 * SHORT]);
        let message = [start, id, large.clone(), Bytes::new(), end];
        let pieces: Vec<Bytes> = event(fields, message).collect().await;
        assert_eq!(pieces[0], "id: a-1-1\nevent: message\ndata: {\"id\":1");
        assert_eq!(pieces[1].as_ptr(), large.as_ptr());
        assert_eq!(pieces[1].len(), large.len());
        assert_eq!(pieces[2..], [" }\n\n"]);
    }

    /// Many short pieces are not collected into one of any length.
    #[tokio::test]
    async fn what_is_joined_is_bounded() {
        let message = vec![Bytes::from(vec![b' '; 1000]); 200];
        let pieces: Vec<Bytes> = event(Bytes::new(), message).collect().await;
        assert!(
            pieces
                .iter()
                .all(|piece| !piece.is_empty() && piece.len() <= JOIN + EVENT_ENDS.len())
        );
        let sent: usize = pieces.iter().map(Bytes::len).sum();
        assert_eq!(sent, EVENT.len() + 200 * 1000 + EVENT_ENDS.len());
    }

    /// Here a comment is due all the time.
    #[tokio::test]
    async fn comments_come_between_events_only() {
        const EVENTS: usize = 50;
        let pieces: [&[u8]; 5] = [EVENT, b"{\"id\":", b"1", b"}", EVENT_ENDS];
        let source = async_stream::stream! {
            for _ in 0..EVENTS {
                for piece in pieces {
                    yield Bytes::from_static(piece);
                }
            }
        };
        let mut events = std::pin::pin!(keep_alive(source, || std::future::ready(())));
        let mut sent = Vec::new();
        while let Some(piece) = events.next().await {
            sent.extend_from_slice(&piece);
        }
        let text = String::from_utf8(sent).unwrap();
        let blocks = text.split("\n\n").filter(|block| !block.is_empty());
        let (alive, events): (Vec<&str>, Vec<&str>) = blocks.partition(|block| *block == ": keep-alive");
        assert!(!alive.is_empty(), "none was due");
        assert_eq!(events, ["event: message\ndata: {\"id\":1}"; EVENTS]);
    }
}
