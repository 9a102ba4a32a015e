//! Starts of which each fails: the pauses between them, and what the parent is told.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::{event::StartFailure, process::StartError, told::Told};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What so many were told is remembered at least, and what others were told for as long as their pauses last.
const REMEMBERED: usize = 64;

/// The starts that have failed since one succeeded that was told the same. A server may fail for what one client says of itself, which is not to keep
/// others out.
#[derive(Default)]
pub(crate) struct Failures {
    failed: Mutex<HashMap<Told, Failed>>,
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
    pub(crate) fn pause(&self, told: &Told, now: Instant) -> Option<(Duration, String)> {
        let failed = self.lock();
        let failed = failed.get(told)?;
        let left = failed.until.saturating_duration_since(now);
        (!left.is_zero()).then(|| (left, failed.why.clone()))
    }

    /// A start has failed: the pause after it is twice that after the one before.
    pub(crate) fn failed(&self, told: &Told, now: Instant, error: &StartError) {
        let mut failed = self.lock();
        let pause = failed.get(told).map_or(FIRST_PAUSE, |failed| failed.next_pause);
        if failed.len() >= REMEMBERED {
            failed.retain(|_, failed| failed.until > now);
        }
        let why = error.message.clone();
        let until = now + pause;
        let next_pause = (pause * 2).min(LONGEST_PAUSE);
        failed.insert(told.clone(), Failed { next_pause, until, why });
        self.tell(Some(StartFailure {
            reason: error.reason,
            message: error.message.clone(),
        }));
    }

    pub(crate) fn succeeded(&self, told: &Told) {
        let mut failed = self.lock();
        failed.remove(told);
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

    fn lock(&self) -> MutexGuard<'_, HashMap<Told, Failed>> {
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
        let (failures, told) = (Failures::default(), Told::Own);
        let mut now = Instant::now();
        assert_eq!(failures.pause(&told, now), None);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = Duration::from_secs(seconds);
            failures.failed(&told, now, &exited("It exited."));
            assert_eq!(failures.pause(&told, now), Some((pause, "It exited.".to_owned())));
            now += pause;
            assert_eq!(failures.pause(&told, now), None);
        }
        failures.succeeded(&told);
        failures.failed(&told, now, &exited("It exited."));
        assert_eq!(failures.pause(&told, now), Some((FIRST_PAUSE, "It exited.".to_owned())));
    }

    #[test]
    fn what_one_client_says_keeps_no_other_out() {
        let failures = Failures::default();
        let now = Instant::now();
        let of = |n: usize| Told::Client(n.to_string().into());
        for n in 0..2 * REMEMBERED {
            failures.failed(
                &of(n),
                now + LONGEST_PAUSE * u32::try_from(n).unwrap(),
                &exited("It exited."),
            );
        }
        assert_eq!(failures.pause(&Told::Own, now), None);
        assert!(failures.pause(&of(2 * REMEMBERED - 1), now).is_some());
        assert!(failures.lock().len() <= REMEMBERED);
    }

    #[test]
    fn only_changes_are_told() {
        let (failures, told) = (Failures::default(), Told::Own);
        let now = Instant::now();
        let mut last = failures.last();
        let mut events = || {
            let changed = last.has_changed().unwrap();
            changed.then(|| last.borrow_and_update().as_ref().map(|failure| failure.message.clone()))
        };
        failures.succeeded(&told);
        assert_eq!(events(), None);
        for message in ["One.", "Two."] {
            failures.failed(&told, now, &exited(message));
            assert_eq!(events(), Some(Some(message.to_owned())));
            failures.failed(&told, now, &exited(message));
            assert_eq!(events(), None);
        }
        failures.succeeded(&told);
        assert_eq!(events(), Some(None));
    }
}
