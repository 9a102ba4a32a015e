//! A connection whose client must not let us wait.

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

use super::{Phase, Place, body::SLOWEST};

/// What a client may still send after the answer to a request of which not all was read, so that the answer reaches it: a connection
/// that is closed with something unread is reset. Whoever sends more is left waiting for a while, which costs them more than us.
const LINGER: Duration = Duration::from_secs(2);
pub(super) const LINGER_BYTES: usize = 256 << 10;
/// A client begins to speak HTTP/2 with these (RFC 9113, section 3.4); no method of HTTP/1 begins so.
const PREFACE: [u8; 3] = *b"PRI";
/// A client begins TLS with a record of this type (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// A connection that ends, as if its client had closed it, when the client lets us wait for too long: for a head, for its next request,
/// or until it takes what we write; or when somebody else gets its place. While a request is under way, its own limits hold.
#[derive(Debug)]
pub struct Guarded<IO> {
    io: IO,
    place: Place,
    reading: Reading,
    stalled: Option<Stalled>,
    /// How long its client has let us wait in writing, less what it has earned since by taking more.
    waited: Duration,
    lingering: Option<Linger>,
}

/// What is awaited from a client between requests.
#[derive(Debug)]
struct Reading {
    protocol: Protocol,
    /// `Phase::begun` when this was last true.
    begun: u32,
    /// A part of a head has come, or nothing ever.
    partly: bool,
    since: Instant,
    alarm: Option<Pin<Box<Sleep>>>,
    /// Ends a lap of [`Phase`], while answers are not taken.
    lap: Option<Pin<Box<Sleep>>>,
    /// Bytes that were written in this lap.
    taken: u64,
    gave_up: bool,
}

/// What was written is not taken.
#[derive(Debug)]
struct Stalled {
    since: Instant,
    alarm: Pin<Box<Sleep>>,
}

#[derive(Debug)]
enum Protocol {
    /// How many bytes of the preface have come.
    Unknown(usize),
    Http1,
    Http2,
    /// What is in it cannot be told: that something came does not say that a request has begun.
    Tls,
}

#[derive(Debug)]
struct Linger {
    left: usize,
    until: Pin<Box<Sleep>>,
}

impl<IO> Guarded<IO> {
    /// Guards a connection that was just accepted.
    pub fn new(io: IO, place: Place) -> Self {
        Self {
            io,
            place,
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

    /// What the connection is at.
    pub fn phase(&self) -> &Arc<Phase> {
        self.place.phase()
    }

    /// How long its client may let us wait.
    pub fn patience(&self) -> Duration {
        self.place.limits().patience
    }

    /// Notes that a write was done, or cannot be.
    fn wrote(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            let bytes = u64::try_from(*written.as_ref().unwrap_or(&0)).unwrap_or(u64::MAX);
            self.reading.taken = self.reading.taken.saturating_add(bytes);
            if let Some(stalled) = self.stalled.take() {
                self.place.phase().has_written();
                self.waited += stalled.since.elapsed();
            }
            if !self.waited.is_zero() {
                let earned = Duration::from_millis(bytes.saturating_mul(1000) / SLOWEST);
                self.waited = self.waited.saturating_sub(earned);
            }
            return Poll::Ready(written);
        }
        let (phase, patience) = (self.place.phase(), self.place.limits().patience);
        if self.stalled.is_none() {
            // Who has let us wait for most of the time they may is no better than who does nothing.
            phase.waits_to_write((patience / 2).saturating_sub(self.waited));
        }
        phase.waits_in(cx.waker());
        if phase.is_evicted() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let left = patience.saturating_sub(self.waited);
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
    /// Takes note of what came.
    fn came(&mut self, bytes: &[u8], phase: &Phase) {
        match self.protocol {
            Protocol::Unknown(0) if bytes.first() == Some(&HANDSHAKE) => {
                // The handshake and the first request must come in time.
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

    /// After a request, the next is awaited.
    fn catch_up(&mut self, phase: &Phase) {
        let begun = phase.begun();
        if begun != self.begun {
            self.begun = begun;
            self.partly = false;
            self.since = phase.quiet_since();
        }
    }

    /// Nothing has come: ready if it should have.
    fn overdue(&mut self, cx: &mut Context<'_>, place: &Place) -> Poll<()> {
        // Also between requests: the alarm of a lap is to be put away when it has rung.
        if self.untaken(cx, place).is_ready() {
            return Poll::Ready(());
        }
        if place.phase().is_serving() {
            return Poll::Pending;
        }
        self.catch_up(place.phase());
        let limits = place.limits();
        let deadline = self.since + if self.partly { limits.patience } else { limits.idle };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < alarm.deadline() {
            alarm.as_mut().reset(deadline);
        }
        // It is left to ring early, rather than set again for every request.
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
    /// Ready if the client has not taken a piece of an answer for as long as we are patient, or half as long again, and of others hardly
    /// anything either.
    fn untaken(&mut self, cx: &mut Context<'_>, place: &Place) -> Poll<()> {
        let phase = place.phase();
        if self.lap.is_none() && !phase.has_untaken() {
            return Poll::Pending;
        }
        let half = place.limits().patience / 2;
        let lap = self.lap.get_or_insert_with(|| {
            phase.set_watched(true);
            self.taken = 0;
            Box::pin(sleep_until(Instant::now() + half))
        });
        while lap.as_mut().poll(cx).is_ready() {
            phase.set_watched(false);
            // What is handed over from here on wakes this task.
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
    /// Reads what an answer came too early for, and forgets it.
    fn linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let unheard = self.reading.partly && !self.place.phase().is_serving();
        if self.reading.gave_up || !(self.place.phase().has_unread_body() || unheard) {
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
        let phase = this.place.phase();
        if read.is_ready() {
            this.reading.came(&buf.filled()[before..], phase);
            return read;
        }
        phase.waits_in(cx.waker());
        if phase.is_evicted() || this.reading.overdue(cx, &this.place).is_ready() {
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
