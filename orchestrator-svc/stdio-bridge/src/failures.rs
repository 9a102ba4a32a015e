//! Starts of which each fails: the pauses between them, and what the parent is told.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::{event::StartFailure, process::StartError};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The starts that have failed since one succeeded.
#[derive(Default)]
pub(crate) struct Failures {
    failed: Mutex<Option<Failed>>,
    last: watch::Sender<Option<StartFailure>>,
}

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
    pub(crate) fn failed(&self, now: Instant, error: &StartError) {
        let mut failed = self.lock();
        let pause = failed.as_ref().map_or(FIRST_PAUSE, |failed| failed.next_pause);
        *failed = Some(Failed {
            next_pause: (pause * 2).min(LONGEST_PAUSE),
            until: now + pause,
            why: error.message.clone(),
        });
        self.tell(Some(StartFailure {
            reason: error.reason,
            message: error.message.clone(),
        }));
    }

    pub(crate) fn succeeded(&self) {
        let mut failed = self.lock();
        *failed = None;
        self.tell(None);
    }

    /// Changes when starts begin to fail, when they fail for another reason, and when one has succeeded again.
    pub(crate) fn last(&self) -> watch::Receiver<Option<StartFailure>> {
        self.last.subscribe()
    }

    /// Under the lock, so that this and the pauses are about the same start.
    fn tell(&self, failure: Option<StartFailure>) {
        self.last.send_if_modified(|last| {
            let is_another = *last != failure;
            *last = failure;
            is_another
        });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Failed>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::event::EndReason;

    fn exited(message: &str) -> StartError {
        StartError::new(EndReason::Exited, message)
    }

    #[test]
    fn pauses_grow_until_a_start_succeeds() {
        let failures = Failures::default();
        let mut now = Instant::now();
        assert_eq!(failures.pause(now), None);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = Duration::from_secs(seconds);
            failures.failed(now, &exited("It exited."));
            assert_eq!(failures.pause(now), Some((pause, "It exited.".to_owned())));
            now += pause;
            assert_eq!(failures.pause(now), None);
        }
        failures.succeeded();
        failures.failed(now, &exited("It exited."));
        assert_eq!(failures.pause(now), Some((FIRST_PAUSE, "It exited.".to_owned())));
    }

    #[test]
    fn only_changes_are_told() {
        let failures = Failures::default();
        let now = Instant::now();
        let mut last = failures.last();
        let mut told = || {
            let changed = last.has_changed().unwrap();
            changed.then(|| last.borrow_and_update().as_ref().map(|failure| failure.message.clone()))
        };
        failures.succeeded();
        assert_eq!(told(), None);
        for message in ["One.", "Two."] {
            failures.failed(now, &exited(message));
            assert_eq!(told(), Some(Some(message.to_owned())));
            failures.failed(now, &exited(message));
            assert_eq!(told(), None);
        }
        failures.succeeded();
        assert_eq!(told(), Some(None));
    }
}
