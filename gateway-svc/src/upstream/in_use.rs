//! The session that a target's calls use, kept beside the target, so that not each call looks it up.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{http1::PreparedPost, session::Session};

/// A session is looked up again after this time, so that the cache learns that it is used: much shorter than the time after which it would be forgotten.
const LOOKED_UP: Duration = Duration::from_secs(10);

/// A session, and what a target's messages in it are sent with, where that is prepared. Cheap to clone.
#[derive(Clone)]
pub(super) struct Used {
    pub(super) session: Arc<Session>,
    pub(super) post: Option<Arc<PreparedPost>>,
}

/// The session that was looked up last for a target. A target that is made out of another has none yet: it may be one with another session.
#[derive(Default)]
pub(super) struct InUse(Mutex<Option<(Used, Instant)>>);

impl Clone for InUse {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl InUse {
    fn used(&self) -> MutexGuard<'_, Option<(Used, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session, if it was looked up a short time ago and is still in the cache.
    pub(super) fn get(&self, now: Instant) -> Option<Used> {
        let used = self.used();
        let (used, until) = used.as_ref()?;
        (now < *until && !used.session.is_forgotten()).then(|| used.clone())
    }

    /// It was looked up at this moment.
    pub(super) fn set(&self, used: Used, now: Instant) {
        *self.used() = Some((used, now + LOOKED_UP));
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    fn in_use(now: Instant) -> (InUse, Arc<Session>) {
        let (in_use, session) = (InUse::default(), Session::new(None, Arc::new(Semaphore::new(1))));
        let session = Arc::new(session);
        let used = Used {
            session: Arc::clone(&session),
            post: None,
        };
        in_use.set(used, now);
        (in_use, session)
    }

    #[test]
    fn a_session_is_looked_up_again_after_a_short_time() {
        let now = Instant::now();
        let (in_use, _) = in_use(now);
        assert!(in_use.get(now + LOOKED_UP - Duration::from_millis(1)).is_some());
        assert!(in_use.get(now + LOOKED_UP).is_none());
    }

    #[test]
    fn a_session_that_is_forgotten_is_used_no_longer() {
        let now = Instant::now();
        let (in_use, session) = in_use(now);
        session.set_forgotten();
        assert!(in_use.get(now).is_none());
    }

    #[test]
    fn a_target_that_is_made_out_of_another_has_no_session_yet() {
        let now = Instant::now();
        assert!(in_use(now).0.clone().get(now).is_none());
    }
}
