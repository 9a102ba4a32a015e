//! A connection, with what has come and what has not been sent.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut, buf::Chain};
use http::{Method, Uri, uri::Scheme};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use service_kit::{
    http1::{AnswerReader, Framing, Malformed},
    receive::{SHORT_READ, poll_receive},
    send::poll_send,
};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    time::Instant,
};

use super::alarm::Alarm;
use crate::upstream::{connect::Stream, response::Head};

/// Bytes to and from a server, over TCP, TLS or a Unix socket.
pub(super) type Io = TokioIo<MaybeHttpsStream<TokioIo<Stream>>>;

/// A request as it is written: head and body.
pub(super) type Message = [Bytes; 2];

/// Which server a connection leads to. The address was checked when it was connected to; each policy has connections of its own.
/// Cheap to clone, to compare and to hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Server {
    tls: bool,
    /// In lower case.
    authority: Arc<str>,
}

impl Server {
    /// That of an absolute URI; `None` where it has none.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        Some(Self {
            tls: uri.scheme() == Some(&Scheme::HTTPS),
            authority: uri.authority()?.as_str().to_ascii_lowercase().into(),
        })
    }
}

/// A connection.
pub(super) struct Connection {
    io: Io,
    pub(super) server: Server,
    pub(super) opened: Instant,
    /// Received, not yet read. It holds no memory while the connection is not used.
    pub(super) came: BytesMut,
    reader: AnswerReader,
    /// The last head, where the reader knows it if it comes again.
    last: Option<Head>,
    unsent: Chain<Bytes, Bytes>,
    /// Whether something of the request was sent, or may have been: with TLS, what was written may be on its way when writing fails.
    begun: bool,
    flushed: bool,
    /// Whether an exchange has ended on it.
    is_used: bool,
    /// Why the rest of the request cannot be sent.
    broken: Option<io::Error>,
    /// For the head of an answer.
    pub(super) alarm: Alarm,
}

impl Connection {
    pub(super) fn new(io: Io, server: Server) -> Self {
        Self {
            io,
            server,
            opened: Instant::now(),
            came: BytesMut::new(),
            reader: AnswerReader::default(),
            last: None,
            unsent: Bytes::new().chain(Bytes::new()),
            begun: false,
            flushed: true,
            is_used: false,
            broken: None,
            alarm: Alarm::default(),
        }
    }

    /// Begins to send a request with this method.
    pub(super) fn start(&mut self, method: &Method, [head, body]: Message) {
        self.reader.expect(method);
        self.unsent = head.chain(body);
        self.begun = false;
        self.flushed = false;
    }

    /// Whether this connection was kept, and the server has closed it before anything of the request can have reached it. What comes is no answer then.
    pub(super) fn is_gone(&self) -> bool {
        self.is_used && !self.begun && self.broken.is_some()
    }

    /// The request, of which nothing was sent.
    pub(super) fn take_back(&mut self) -> Message {
        let unsent = std::mem::replace(&mut self.unsent, Bytes::new().chain(Bytes::new()));
        unsent.into_inner().into()
    }

    /// Sends what can be sent of the request. A server may answer before it has all of it, and may read the rest only when its answer is read.
    pub(super) fn send(&mut self, cx: &mut Context<'_>) {
        if self.flushed || self.broken.is_some() {
            return;
        }
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            self.broken = Some(error);
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unsent.has_remaining() {
            // Before it fails, a write of TLS may have sent a part.
            self.begun |= self.server.tls;
            ready!(poll_send(&mut self.io, cx, &mut self.unsent))?;
            self.begun = true;
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.flushed = true;
        self.unsent = Bytes::new().chain(Bytes::new());
        Poll::Ready(Ok(()))
    }

    /// Takes the head of the answer out of what has come, with where the body ends, and whether the server keeps the connection open behind it; `None`
    /// where more must come.
    pub(super) fn read_head(&mut self) -> Result<Option<(Head, Framing, bool)>, Malformed> {
        let Some(answer) = self.reader.read(&mut self.came)? else {
            return Ok(None);
        };
        let again = self.last.take().filter(|last| Arc::ptr_eq(last.parts(), &answer.parts));
        let head = again.unwrap_or_else(|| Head::new(answer.parts));
        self.last = self.reader.knows(head.parts()).then(|| head.clone());
        Ok(Some((head, answer.framing, answer.keeps_open)))
    }

    /// Receives more, of which at least so much will come. Returns false where the server has closed the connection.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>, at_least: u64) -> Poll<io::Result<bool>> {
        poll_receive(&mut self.io, cx, &mut self.came, at_least)
    }

    /// As [`Self::poll_receive`], into one buffer that has memory for all that is missing.
    pub(super) fn poll_receive_whole(&mut self, cx: &mut Context<'_>, missing: usize) -> Poll<io::Result<bool>> {
        if missing > SHORT_READ {
            self.came.reserve(missing);
        }
        self.poll_receive(cx, missing as u64)
    }

    /// Why the connection ended too early, which the server did: by `error`, or by closing it.
    pub(super) fn ended_early(&mut self, error: Option<io::Error>) -> io::Error {
        let closed = || {
            io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed it before its answer was complete",
            )
        };
        self.broken.take().or(error).unwrap_or_else(closed)
    }

    /// Whether the server has neither closed it nor sent what nobody asked for, as far as the thread's last look at its sockets says: there is no system
    /// call where it saw nothing. The task is woken when that changes.
    pub(super) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        let mut byte = [0; 1];
        let mut buffer = ReadBuf::new(&mut byte);
        Pin::new(&mut self.io).poll_read(cx, &mut buffer).is_pending()
    }

    /// The answer has been read: whether nothing is left of the exchange, so that another may follow. Releases the memory of this one.
    pub(super) fn is_at_rest(&mut self) -> bool {
        self.is_used = true;
        self.flushed && std::mem::take(&mut self.came).is_empty()
    }
}
