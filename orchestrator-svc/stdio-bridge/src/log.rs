//! What a server writes in addition to messages of the protocol, for the parent: without secrets, and at a limited rate.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    io::AsyncRead,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{event::Events, lines::Lines, redact::Redactor, spec::Limits};

/// What a line costs in addition to its bytes, in bytes: each is processed several times.
const LINE: usize = 128;
/// From the first line that is dropped to the line that reports how many were.
const REPORT: Duration = Duration::from_secs(1);
/// After so many dropped bytes, the server waits for [`PAUSE`]: a loop that writes as fast as it can must not take processor time from others.
const READ_ON: usize = 256 << 10;
const PAUSE: Duration = Duration::from_millis(50);

/// The log of one server.
pub(crate) struct Log {
    events: Events,
    redactor: Arc<Redactor>,
    line_bytes: usize,
    meter: Mutex<Meter>,
    /// For the task that reports what was dropped.
    this: Weak<Self>,
}

impl Log {
    pub(crate) fn new(events: Events, redactor: Arc<Redactor>, limits: &Limits) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            events,
            redactor,
            line_bytes: limits.log_line_bytes,
            meter: Mutex::new(Meter::new(
                limits.log_burst_bytes,
                limits.log_bytes_per_second,
                Instant::now(),
            )),
            this: this.clone(),
        })
    }

    /// Logs all lines of a stream.
    pub(crate) fn follow(self: &Arc<Self>, stream: impl AsyncRead + Unpin + Send + 'static) -> JoinHandle<()> {
        let log = Arc::clone(self);
        // More is read than is logged, so that a secret that begins just before the cut is recognized.
        let mut lines = Lines::new(stream, self.line_bytes + masking::LONGEST);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next().await {
                log.line(&line.bytes).await;
            }
            log.report_dropped().await;
        })
    }

    /// Logs a line of the server. Waits if the server writes far more than is accepted.
    pub(crate) async fn line(&self, line: &[u8]) {
        let length = line.len().min(self.line_bytes);
        if self.takes(length).await {
            self.events.log(self.redactor.redact(line, self.line_bytes)).await;
        }
    }

    /// Logs a line about the server.
    pub(crate) async fn note(&self, note: String) {
        if self.takes(note.len()).await {
            self.events.log(note).await;
        }
    }

    /// Removes the secrets from a text that is shown elsewhere than in the log.
    pub(crate) fn redact(&self, text: &[u8], limit: usize) -> String {
        self.redactor.redact(text, limit)
    }

    /// What removes the secrets.
    pub(crate) fn redactor(&self) -> &Arc<Redactor> {
        &self.redactor
    }

    async fn takes(&self, bytes: usize) -> bool {
        let taken = self.meter().take(bytes, Instant::now());
        match taken {
            Taken::Whole => return true,
            Taken::Dropped { first, pause } => {
                if first {
                    self.report_later();
                }
                if pause {
                    sleep(PAUSE).await;
                }
            }
        }
        false
    }

    fn report_later(&self) {
        let this = self.this.clone();
        tokio::spawn(async move {
            sleep(REPORT).await;
            if let Some(log) = this.upgrade() {
                log.report_dropped().await;
            }
        });
    }

    async fn report_dropped(&self) {
        let (lines, bytes, rate) = {
            let mut meter = self.meter();
            let dropped = (meter.dropped_lines, meter.dropped_bytes, meter.rate);
            (meter.dropped_lines, meter.dropped_bytes) = (0, 0);
            dropped
        };
        if lines > 0 {
            let report = format!(
                "[{lines} lines ({bytes} bytes) were dropped: the server writes more than {rate} bytes a second]"
            );
            self.events.log(report).await;
        }
    }

    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bucket of bytes that fills with time.
#[derive(Debug)]
struct Meter {
    size: usize,
    /// Bytes a second.
    rate: usize,
    left: usize,
    filled: Instant,
    dropped_lines: u64,
    dropped_bytes: u64,
    /// Since the last pause.
    unpaused: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Whole,
    Dropped {
        /// The first since the last report of what was dropped.
        first: bool,
        /// The writer must wait.
        pause: bool,
    },
}

impl Meter {
    fn new(size: usize, rate: usize, now: Instant) -> Self {
        Self {
            size,
            rate,
            left: size,
            filled: now,
            dropped_lines: 0,
            dropped_bytes: 0,
            unpaused: 0,
        }
    }

    fn take(&mut self, bytes: usize, now: Instant) -> Taken {
        let millis = usize::try_from(now.duration_since(self.filled).as_millis()).unwrap_or(usize::MAX);
        let filled = millis.saturating_mul(self.rate) / 1000;
        if filled > 0 {
            self.left = self.left.saturating_add(filled).min(self.size);
            self.filled = now;
        }
        let cost = bytes + LINE;
        if self.left >= cost {
            self.left -= cost;
            return Taken::Whole;
        }
        self.dropped_lines += 1;
        self.dropped_bytes += bytes as u64;
        self.unpaused += cost;
        let pause = self.unpaused >= READ_ON;
        if pause {
            self.unpaused = 0;
        }
        Taken::Dropped {
            first: self.dropped_lines == 1,
            pause,
        }
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn accepts_a_burst_and_then_a_rate() {
        let start = Instant::now();
        let mut meter = Meter::new(100 * LINE, 10 * LINE, start);
        let mut taken =
            |count: usize, at: Duration| (0..count).filter(|_| meter.take(0, start + at) == Taken::Whole).count();
        assert_eq!(taken(1_000, Duration::ZERO), 100);
        assert_eq!(taken(1_000, Duration::from_secs(2)), 20);
        assert_eq!(taken(5, Duration::from_secs(60)), 5);
        assert_eq!(taken(1_000, Duration::from_secs(60)), 95);
        assert_eq!(meter.dropped_lines, 900 + 980 + 905);
    }

    #[test]
    fn a_writer_of_too_much_waits() {
        let now = Instant::now();
        let mut meter = Meter::new(0, 0, now);
        let first = meter.take(10, now);
        assert_eq!(
            first,
            Taken::Dropped {
                first: true,
                pause: false
            }
        );
        let pauses = (0..10_000).filter(|_| matches!(meter.take(1 << 10, now), Taken::Dropped { pause: true, .. }));
        assert_eq!(pauses.count(), 10_000 * ((1 << 10) + LINE) / READ_ON);
    }
}
