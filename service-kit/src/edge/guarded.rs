//! A connection that closes if its client stalls.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{Permit, Phase, body::SLOWEST};

/// After a response to a request whose body was not fully read, the client may still send this much, for this long, so
/// that the response reaches it: closing a connection with unread bytes resets it. A client that sends more waits until
/// the time is over, which costs it more than the server.
const LINGER: Duration = Duration::from_secs(2);
pub(super) const LINGER_BYTES: usize = 256 << 10;
/// The first bytes of an HTTP/2 connection (RFC 9113, section 3.4). No HTTP/1 method begins with them.
const PREFACE: [u8; 3] = *b"PRI";
/// The record type of the first byte of a TLS connection (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// A connection that ends, as if its client had closed it, when the client stalls for too long (before the end of a
/// request head, before its next request, or while reading a response), or when the gate evicts it. While a request is
/// in progress, the limits of its body and response apply instead.
#[derive(Debug)]
pub struct Guarded<IO> {
    io: IO,
    permit: Permit,
    reading: Reading,
    stalled: Option<Stalled>,
    /// How long the client has made writes wait, less what it has earned since by reading.
    waited: Duration,
    lingering: Option<Linger>,
}

/// What the connection waits for between requests.
#[derive(Debug)]
struct Reading {
    protocol: Protocol,
    /// The value of `Phase::begun` when this was last updated.
    begun: u32,
    /// A part of a request head has arrived, or nothing has ever arrived.
    partly: bool,
    since: Instant,
    alarm: Option<Pin<Box<Sleep>>>,
    /// Ends a lap of [`Phase`] while a piece of a response is unsent.
    lap: Option<Pin<Box<Sleep>>>,
    /// Bytes written in this lap.
    taken: u64,
    gave_up: bool,
}

/// A write that waits for the client.
#[derive(Debug)]
struct Stalled {
    since: Instant,
    alarm: Pin<Box<Sleep>>,
}

#[derive(Debug)]
enum Protocol {
    /// How many bytes of the preface have arrived.
    Unknown(usize),
    Http1,
    Http2,
    /// The content is encrypted, so a byte that arrives does not tell whether a request has begun.
    Tls,
}

#[derive(Debug)]
struct Linger {
    left: usize,
    until: Pin<Box<Sleep>>,
}

impl<IO> Guarded<IO> {
    /// Guards a connection that was just accepted.
    pub fn new(io: IO, permit: Permit) -> Self {
        Self {
            io,
            permit,
            reading: Reading {
                protocol: Protocol::Unknown(0),
                begun: 0,
                partly: true,
                since: Instant::now(),
                alarm: None,
                lap: None,
                taken: 0,
                gave_up: false,
            },
            stalled: None,
            waited: Duration::ZERO,
            lingering: None,
        }
    }

    /// The state of the connection.
    pub fn phase(&self) -> &Arc<Phase> {
        self.permit.phase()
    }

    /// How long the client may stall.
    pub fn client_timeout(&self) -> Duration {
        self.permit.limits().client_timeout
    }

    /// Records the result of a write.
    fn wrote(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            let bytes = u64::try_from(*written.as_ref().unwrap_or(&0)).unwrap_or(u64::MAX);
            self.reading.taken = self.reading.taken.saturating_add(bytes);
            if let Some(stalled) = self.stalled.take() {
                self.permit.phase().has_written();
                self.waited += stalled.since.elapsed();
            }
            if !self.waited.is_zero() {
                let earned = Duration::from_millis(bytes.saturating_mul(1000) / SLOWEST);
                self.waited = self.waited.saturating_sub(earned);
            }
            return Poll::Ready(written);
        }
        let (phase, client_timeout) = (self.permit.phase(), self.permit.limits().client_timeout);
        if self.stalled.is_none() {
            // A client that has used up most of its time counts as quiet.
            phase.waits_to_write((client_timeout / 2).saturating_sub(self.waited));
        }
        phase.waits_in(cx.waker());
        if phase.is_evicted() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let left = client_timeout.saturating_sub(self.waited);
        let stalled = self.stalled.get_or_insert_with(|| {
            let since = Instant::now();
            Stalled {
                since,
                alarm: Box::pin(sleep_until(since + left)),
            }
        });
        ready!(stalled.alarm.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not take its answer",
        )))
    }
}

impl Reading {
    /// Records bytes that arrived.
    fn came(&mut self, bytes: &[u8], phase: &Phase) {
        match self.protocol {
            Protocol::Unknown(0) if bytes.first() == Some(&HANDSHAKE) => {
                // The handshake and the first request have one deadline.
                phase.set_multiplexed();
                self.protocol = Protocol::Tls;
            }
            Protocol::Unknown(known) => {
                let rest = &PREFACE[known..];
                let length = rest.len().min(bytes.len());
                self.protocol = if rest[..length] != bytes[..length] {
                    Protocol::Http1
                } else if length < rest.len() {
                    Protocol::Unknown(known + length)
                } else {
                    phase.set_multiplexed();
                    self.partly = false;
                    self.since = Instant::now();
                    Protocol::Http2
                };
            }
            Protocol::Http1 if !phase.is_serving() => {
                self.catch_up(phase);
                if !self.partly {
                    self.partly = true;
                    self.since = Instant::now();
                }
            }
            Protocol::Http1 | Protocol::Http2 | Protocol::Tls => {}
        }
    }

    /// After a request has ended, begins to wait for the next one.
    fn catch_up(&mut self, phase: &Phase) {
        let begun = phase.begun();
        if begun != self.begun {
            self.begun = begun;
            self.partly = false;
            self.since = phase.quiet_since();
        }
    }

    /// Called when nothing has arrived. Ready if the deadline is over.
    fn overdue(&mut self, cx: &mut Context<'_>, permit: &Permit) -> Poll<()> {
        // Also between requests, so that an alarm that has rung is removed.
        if self.untaken(cx, permit).is_ready() {
            return Poll::Ready(());
        }
        if permit.phase().is_serving() {
            return Poll::Pending;
        }
        self.catch_up(permit.phase());
        let limits = permit.limits();
        let deadline = self.since
            + if self.partly {
                limits.client_timeout
            } else {
                limits.idle
            };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < alarm.deadline() {
            alarm.as_mut().reset(deadline);
        }
        // The alarm may ring early and is set again then: setting it for every request would cost more.
        while alarm.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl Reading {
    /// Ready if a piece of a response has been unsent for one to one and a half times the client timeout, and the client has
    /// read hardly anything of other responses either.
    fn untaken(&mut self, cx: &mut Context<'_>, permit: &Permit) -> Poll<()> {
        let phase = permit.phase();
        if self.lap.is_none() && !phase.has_untaken() {
            return Poll::Pending;
        }
        let half = permit.limits().client_timeout / 2;
        let lap = self.lap.get_or_insert_with(|| {
            phase.set_watched(true);
            self.taken = 0;
            Box::pin(sleep_until(Instant::now() + half))
        });
        while lap.as_mut().poll(cx).is_ready() {
            phase.set_watched(false);
            // Pieces that are handed over after this wake the task.
            if !phase.has_untaken() {
                self.lap = None;
                return Poll::Pending;
            }
            phase.set_watched(true);
            let taken = u128::from(std::mem::take(&mut self.taken));
            let took_enough = taken * 1000 >= u128::from(SLOWEST) * half.as_millis();
            if phase.ends_lap(took_enough) {
                return Poll::Ready(());
            }
            lap.as_mut().reset(Instant::now() + half);
        }
        Poll::Pending
    }
}

impl<IO: AsyncRead + Unpin> Guarded<IO> {
    /// Reads and discards the rest of a request that was answered before it had arrived.
    fn linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.reading.catch_up(self.permit.phase());
        let unheard = self.reading.partly && !self.permit.phase().is_serving();
        if self.reading.gave_up || !(self.permit.phase().has_unread_body() || unheard) {
            return Poll::Ready(());
        }
        let linger = self.lingering.get_or_insert_with(|| Linger {
            left: LINGER_BYTES,
            until: Box::pin(sleep_until(Instant::now() + LINGER)),
        });
        let mut buffer = [0; 16 << 10];
        while linger.left > 0 {
            let mut buffer = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    linger.left = linger.left.saturating_sub(buffer.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        linger.until.as_mut().poll(cx)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        let phase = this.permit.phase();
        if read.is_ready() {
            this.reading.came(&buf.filled()[before..], phase);
            return read;
        }
        phase.waits_in(cx.waker());
        if phase.is_evicted() || this.reading.overdue(cx, &this.permit).is_ready() {
            this.reading.gave_up = true;
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.wrote(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        }
        this.linger(cx).map(Ok)
    }
}
