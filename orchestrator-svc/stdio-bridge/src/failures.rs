//! Pauses between starts while each of them fails.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The starts that have failed since one succeeded.
#[derive(Default)]
pub(crate) struct Failures(Mutex<Option<Failed>>);

struct Failed {
    next_pause: Duration,
    /// No start until then.
    until: Instant,
    why: String,
}

impl Failures {
    /// How long no further start is tried, and why the last one failed.
    pub(crate) fn pause(&self, now: Instant) -> Option<(Duration, String)> {
        let failed = self.lock();
        let failed = failed.as_ref()?;
        let left = failed.until.saturating_duration_since(now);
        (!left.is_zero()).then(|| (left, failed.why.clone()))
    }

    /// A start has failed: the pause after it is twice that after the one before.
    pub(crate) fn failed(&self, now: Instant, why: &str) {
        let mut failed = self.lock();
        let pause = failed.as_ref().map_or(FIRST_PAUSE, |failed| failed.next_pause);
        *failed = Some(Failed {
            next_pause: (pause * 2).min(LONGEST_PAUSE),
            until: now + pause,
            why: why.to_owned(),
        });
    }

    pub(crate) fn succeeded(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Failed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn pauses_grow_until_a_start_succeeds() {
        let failures = Failures::default();
        let mut now = Instant::now();
        assert_eq!(failures.pause(now), None);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = Duration::from_secs(seconds);
            failures.failed(now, "It exited.");
            assert_eq!(failures.pause(now), Some((pause, "It exited.".to_owned())));
            now += pause;
            assert_eq!(failures.pause(now), None);
        }
        failures.succeeded();
        failures.failed(now, "It exited.");
        assert_eq!(failures.pause(now), Some((FIRST_PAUSE, "It exited.".to_owned())));
    }
}
