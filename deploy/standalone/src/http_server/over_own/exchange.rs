//! One request, and its answer.

use std::{
    future::poll_fn,
    io,
    num::NonZeroUsize,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Version, header, request::Parts};
use http_body::Body as _;
use service_kit::{
    app::{Answer, RequestBody},
    edge::Served,
    http1::{
        BodyReader, CHUNK_END, CONTINUE, ChunkHead, Framing, LAST_CHUNK, Malformed, RequestHead, answer_head, with_date,
    },
    json_answer::JsonAnswer,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    super::answering::Way,
    Serving,
    client::Client,
    incoming::{Broken, Wants, incoming},
};

/// What is read ahead of an answer while the client takes what is before it. Almost all answers are shorter, and so are sent with one write, also as streams of
/// events, where something follows the message.
pub(super) const AHEAD: usize = 128 << 10;
/// A head that has no long fields.
const HEAD: usize = 512;

/// The part of a request's body that has not come when its answer is begun.
struct Unread {
    reader: BodyReader,
    wants: Wants,
    /// The client waits for a word before it sends the body.
    expects_continue: bool,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Serving<'_, I> {
    /// Answers a request. Returns whether another may follow on its connection.
    pub(super) async fn exchange(&mut self, head: RequestHead) -> io::Result<bool> {
        let RequestHead {
            parts,
            framing,
            keeps_open,
            expects_continue,
        } = head;
        let (method, version) = (parts.method.clone(), parts.version);
        let way = self.way(parts);
        let (body, mut unread) = self.body(framing, expects_continue);
        let (answer, served) = {
            let mut answer = pin!(self.answering.answer(way, body));
            let client = &mut self.client;
            poll_fn(|cx| {
                loop {
                    if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                        return Poll::Ready(Ok(answer));
                    }
                    let Some(rest) = &mut unread else {
                        return client.poll_gone(cx).map(Err);
                    };
                    ready!(rest.poll_more(cx, client))?;
                    if rest.reader.is_ended() {
                        unread = None;
                    }
                }
            })
            .await?
        };
        // What has come of the rest is read; for more, nobody waits.
        let is_read = unread.is_none_or(|unread| unread.skips(&mut self.client));
        let stays = keeps_open && is_read && !self.stop.has_begun();
        match answer {
            Answer::Json(json) => self.send_json(json, served, version, stays).await?,
            Answer::Other(response) => return self.send(response, Some(served), &method, version, stays).await,
        }
        Ok(stays)
    }

    /// What answers the requests with this head: the same as before, if it comes again.
    fn way(&mut self, head: Arc<Parts>) -> Way {
        if let Some((last, endpoint)) = &self.last
            && Arc::ptr_eq(last, &head)
        {
            return Way::Direct(Arc::clone(endpoint));
        }
        let way = self.answering.way(Arc::clone(&head));
        self.last = match &way {
            Way::Direct(endpoint) if self.reader.knows(&head) => Some((head, Arc::clone(endpoint))),
            _ => None,
        };
        way
    }

    /// The body of a request; with its rest, where not all of it has come.
    fn body(&mut self, framing: Framing, expects_continue: bool) -> (RequestBody, Option<Unread>) {
        let came = &mut self.client.came;
        let mut reader = BodyReader::new(framing);
        if reader.left().is_some_and(|left| left <= came.len() as u64) {
            // A length that has come whole is one piece.
            let whole = reader.read(came).ok().flatten().unwrap_or_default();
            return (RequestBody::Whole(whole), None);
        }
        let (body, wants) = incoming(reader.left());
        let unread = Unread {
            reader,
            wants,
            expects_continue: expects_continue && came.is_empty(),
        };
        (RequestBody::Coming(self.answering.limited(body)), Some(unread))
    }

    /// Answers a request that is refused unread. Nothing more is read of its connection.
    pub(super) async fn refuse(&mut self, malformed: Malformed) -> io::Result<bool> {
        tracing::debug!(error = %malformed, "a request was refused");
        let why = format!("the request was refused: {malformed}\n");
        let response = self.answering.refuse((malformed.status(), why).into_response());
        self.send(response, None, &Method::POST, Version::HTTP_11, false).await
    }

    /// Sends an answer with JSON.
    async fn send_json(&mut self, json: JsonAnswer, served: Served, version: Version, stays: bool) -> io::Result<()> {
        let (length, is_short) = (json.length(), json.is_short());
        let mut head = BytesMut::with_capacity(HEAD + if is_short { length } else { 0 });
        let framing = Framing::Length(length as u64);
        with_date(|date| self.answering.json.put(&mut head, version, framing, !stays, date));
        if is_short {
            json.copy_to(&mut head);
            self.client.push(head.freeze());
        } else {
            self.client.push(head.freeze());
            json.pieces.iter().cloned().for_each(|piece| self.client.push(piece));
        }
        drop(json.pieces);
        let mut held = Some((json.in_flight, served));
        poll_fn(|cx| {
            if self.client.unsent() >= AHEAD && self.client.poll_send(cx)?.is_pending() && self.client.unsent() >= AHEAD
            {
                return Poll::Pending;
            }
            // As with other answers: the rest is so short that it counts no more for its caller.
            held = None;
            self.client.poll_send(cx)
        })
        .await
    }

    /// Sends an answer. Returns whether another request may follow.
    async fn send(
        &mut self,
        response: Response,
        served: Option<Served>,
        method: &Method,
        version: Version,
        stays: bool,
    ) -> io::Result<bool> {
        let (parts, body) = response.into_parts();
        let stays = stays && parts.headers.get(header::CONNECTION) != Some(&HeaderValue::from_static("close"));
        let length = body.size_hint().exact();
        let framing = Framing::for_answer(method, version, parts.status, &parts.headers, length);
        let stays = stays && framing != Framing::UntilClose;
        let mut head = BytesMut::with_capacity(HEAD);
        with_date(|date| answer_head(&mut head, parts.status, version, &parts.headers, framing, !stays, date));
        self.client.push(head.freeze());
        let mut sending = Sending {
            body: Some(body),
            framing,
            served,
        };
        poll_fn(|cx| sending.poll(cx, &mut self.client)).await?;
        Ok(stays)
    }
}

impl Unread {
    /// Reads more, if somebody waits for it. Ready when they have got something.
    fn poll_more<I: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<I>,
    ) -> Poll<io::Result<()>> {
        // Without an answer, and without interest in the body, there is nothing to do but wait.
        if !ready!(self.wants.poll_wanted(cx)) {
            return Poll::Pending;
        }
        if std::mem::take(&mut self.expects_continue) {
            client.push(Bytes::from_static(CONTINUE));
        }
        if client.unsent() > 0 {
            ready!(client.poll_send(cx))?;
        }
        loop {
            let piece = match self.reader.read(&mut client.came) {
                Ok(None) if !self.reader.is_ended() => match ready!(client.poll_receive(cx, self.reader.at_least())) {
                    Ok(true) => continue,
                    Ok(false) => Some(Err(Broken::Closed)),
                    Err(error) => return Poll::Ready(Err(error)),
                },
                Ok(piece) => piece.map(Ok),
                Err(malformed) => Some(Err(malformed.into())),
            };
            let is_over = self.reader.is_ended() || matches!(piece, Some(Err(_)));
            self.wants.give(piece, is_over);
            return Poll::Ready(Ok(()));
        }
    }

    /// Whether the rest has come, without another look at the socket.
    fn skips<I>(mut self, client: &mut Client<I>) -> bool {
        while let Ok(Some(_)) = self.reader.read(&mut client.came) {}
        self.reader.is_ended()
    }
}

/// An answer whose head is on its way.
struct Sending {
    /// `None` behind its end.
    body: Option<Body>,
    framing: Framing,
    /// The request ends with the body: writing the rest of it waits for the client.
    served: Option<Served>,
}

impl Sending {
    fn poll<I: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<I>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut waits = false;
            while let Some(body) = &mut self.body
                && client.unsent() < AHEAD
            {
                match Pin::new(body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        if let Ok(data) = frame.into_data() {
                            self.push(data, client)?;
                        }
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(io::Error::other(error))),
                    Poll::Ready(None) => self.end(client)?,
                    Poll::Pending => {
                        waits = true;
                        break;
                    }
                }
            }
            ready!(client.poll_send(cx))?;
            if self.body.is_none() {
                return Poll::Ready(Ok(()));
            }
            if waits {
                return client.poll_gone(cx).map(Err);
            }
        }
    }

    fn push<I: AsyncRead + AsyncWrite + Unpin>(&mut self, data: Bytes, client: &mut Client<I>) -> io::Result<()> {
        match &mut self.framing {
            Framing::None => {}
            Framing::UntilClose => client.push(data),
            Framing::Length(left) => {
                let length = data.len() as u64;
                *left = left.checked_sub(length).ok_or_else(another_length)?;
                client.push(data);
            }
            Framing::Chunked => {
                if let Some(length) = NonZeroUsize::new(data.len()) {
                    client.push(Bytes::copy_from_slice(ChunkHead::new(length).as_ref()));
                    client.push(data);
                    client.push(Bytes::from_static(CHUNK_END));
                }
            }
        }
        Ok(())
    }

    fn end<I: AsyncRead + AsyncWrite + Unpin>(&mut self, client: &mut Client<I>) -> io::Result<()> {
        self.body = None;
        self.served = None;
        match self.framing {
            Framing::Length(left) if left > 0 => return Err(another_length()),
            Framing::Chunked => client.push(Bytes::from_static(LAST_CHUNK)),
            _ => {}
        }
        Ok(())
    }
}

fn another_length() -> io::Error {
    io::Error::other("an answer has another length than its head says")
}
