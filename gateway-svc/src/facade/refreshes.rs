//! One refresh at a time for each refresh token, completed whoever still waits for it, and its answer once more for the client that did not
//! get it. Identity providers take a refresh token only once: one that comes again is stolen to them, and they end what came from it.
//!
//! A replica knows only its own refreshes, and forgets them when it ends.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, ready},
};
use moka::sync::Cache;
use service_kit::Clock;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Instrument as _;

use super::answer::{Issued, OAuthError};

/// For how long an answer is kept.
const KEPT: Duration = Duration::from_secs(60);
/// Answers that are kept; what comes beyond these is not.
const MAX_KEPT: usize = 10_000;
/// The tokens in them together, in bytes.
const MAX_BYTES: usize = 16 << 20;
/// Refresh tokens that are known to be no longer accepted.
const MAX_ENDED: u64 = 10_000;

pub(super) type Outcome = Result<Arc<Issued>, OAuthError>;
/// The outcome, for each that waits.
type Flight = Shared<BoxFuture<'static, Outcome>>;
/// Of a refresh token, as clients have it.
type Digest = [u8; 32];

/// Those in progress, and those whose answers are kept.
pub(super) struct Refreshes {
    known: Arc<Mutex<Known>>,
    /// Those that are no longer accepted. The provider is not asked for them again: whoever has such a token could have as many requests in
    /// progress there as there are places for everybody.
    ended: Cache<Digest, OAuthError>,
    in_progress: TaskTracker,
    runtime: Handle,
    clock: Clock,
}

#[derive(Default)]
struct Known {
    refreshes: HashMap<Digest, Refresh>,
    /// By the refresh token in a kept answer, the one it was given for.
    predecessors: HashMap<Digest, Digest>,
    bytes: usize,
}

struct Refresh {
    outcome: Flight,
    kept: Option<Kept>,
}

struct Kept {
    successor: Digest,
    bytes: usize,
    /// Forgets it in time.
    _timer: AbortOnDropHandle<()>,
}

impl Refreshes {
    /// They run on `runtime`: that of the request that begins one may end with its client's connection.
    pub(super) fn new(runtime: Handle, clock: Clock) -> Self {
        Self {
            known: Arc::default(),
            ended: Cache::builder().max_capacity(MAX_ENDED).time_to_live(KEPT).build(),
            in_progress: TaskTracker::new(),
            runtime,
            clock,
        }
    }

    /// The outcome for this refresh token, as clients have it: of the refresh in progress, of one that has just been, or of the one that
    /// `refresh` begins.
    pub(super) fn join<F>(&self, token: &str, refresh: impl FnOnce() -> F) -> Flight
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let token = digest(token);
        let mut known = lock(&self.known);
        // Whoever has this token has got the answer that it was in: from now on, its predecessor is in nobody's hands but a thief's.
        if let Some(predecessor) = known.predecessors.get(&token).copied() {
            known.forget(&predecessor);
        }
        if let Some(refresh) = known.refreshes.get(&token) {
            return refresh.outcome.clone();
        }
        if let Some(error) = self.ended.get(&token) {
            return ready(Err(error)).boxed().shared();
        }
        let refresh = refresh();
        let ended = self.ended.clone();
        let (of, clock) = (Arc::clone(&self.known), self.clock.clone());
        // The guard is made in the task: a runtime that ends drops a task that has not run while the lock is held here.
        let task = async move {
            let _ending = Ending(Arc::clone(&of), token);
            let outcome = refresh.await;
            match &outcome {
                Ok(issued) => keep(&of, token, issued, &clock),
                Err(error) if error.error == "invalid_grant" => ended.insert(token, error.clone()),
                Err(_) => {}
            }
            outcome
        };
        let task = self.in_progress.spawn_on(task.in_current_span(), &self.runtime);
        let outcome =
            task.map(|ended| ended.unwrap_or_else(|_| Err(OAuthError::unavailable("the refresh broke off; retry"))));
        let outcome = outcome.boxed().shared();
        let refresh = Refresh {
            outcome: outcome.clone(),
            kept: None,
        };
        known.refreshes.insert(token, refresh);
        outcome
    }

    /// Forgets what is kept of a refresh token that is revoked, whether it was given or taken.
    pub(super) fn forget(&self, token: &str) {
        let token = digest(token);
        let mut known = lock(&self.known);
        let predecessor = known.predecessors.get(&token).copied();
        for token in predecessor.into_iter().chain([token]) {
            known.forget(&token);
        }
    }

    /// Ends when no refresh is in progress. From now on, none is to begin.
    pub(super) async fn ended(&self) {
        self.in_progress.close();
        self.in_progress.wait().await;
    }

    /// Whether none is to begin.
    pub(super) fn are_ending(&self) -> bool {
        self.in_progress.is_closed()
    }
}

impl Known {
    /// Forgets an answer that is kept.
    fn forget(&mut self, token: &Digest) {
        let Some(kept) = self.refreshes.get_mut(token).and_then(|refresh| refresh.kept.take()) else {
            return;
        };
        self.refreshes.remove(token);
        self.predecessors.remove(&kept.successor);
        self.bytes -= kept.bytes;
    }
}

/// Keeps an answer, until its access token expires at the latest. One without a refresh token is not: the provider takes the one that the client
/// has again.
fn keep(of: &Arc<Mutex<Known>>, token: Digest, issued: &Issued, clock: &Clock) {
    let Some(successor) = issued.refresh_token().map(digest) else {
        return;
    };
    let (bytes, time) = (issued.size(), issued.lasts(clock.now()).min(KEPT));
    let mut known = lock(of);
    if known.predecessors.len() == MAX_KEPT || known.bytes + bytes > MAX_BYTES {
        return;
    }
    let Some(refresh) = known.refreshes.get_mut(&token) else {
        return;
    };
    let forgetting = Arc::clone(of);
    let timer = tokio::spawn(async move {
        tokio::time::sleep(time).await;
        lock(&forgetting).forget(&token);
    });
    refresh.kept = Some(Kept {
        successor,
        bytes,
        _timer: AbortOnDropHandle::new(timer),
    });
    known.predecessors.insert(successor, token);
    known.bytes += bytes;
}

/// Removes a refresh that has ended, even by a panic, unless its answer is kept.
struct Ending(Arc<Mutex<Known>>, Digest);

impl Drop for Ending {
    fn drop(&mut self) {
        let Self(known, token) = self;
        let mut known = lock(known);
        if known.refreshes.get(token).is_some_and(|refresh| refresh.kept.is_none()) {
            known.refreshes.remove(token);
        }
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn digest(token: &str) -> Digest {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refreshes() -> Refreshes {
        Refreshes::new(Handle::current(), Clock::System)
    }

    async fn answer(refresh: Option<String>, lasts: u64) -> Outcome {
        Ok(Arc::new(Issued {
            access: "access".into(),
            refresh: refresh.map(Into::into),
            scope: None,
            expires_at: Clock::System.now() + Duration::from_secs(lasts),
        }))
    }

    /// Whether this is answered without a refresh.
    async fn is_kept(refreshes: &Refreshes, token: &str) -> bool {
        let other = async || Err(OAuthError::grant("refreshed"));
        refreshes.join(token, other).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_kept_for_a_minute_or_until_they_expire() {
        for (refresh, lasts, kept_for) in [
            (Some("b"), 3_600, KEPT),
            (Some("b"), 20, Duration::from_secs(20)),
            (None, 3_600, Duration::ZERO),
        ] {
            let refreshes = refreshes();
            let refresh = refresh.map(str::to_owned);
            refreshes.join("a", || answer(refresh, lasts)).await.unwrap();
            assert_eq!(is_kept(&refreshes, "a").await, !kept_for.is_zero());
            tokio::time::sleep(kept_for + Duration::from_millis(1)).await;
            assert!(!is_kept(&refreshes, "a").await);
            let known = lock(&refreshes.known);
            assert!(known.refreshes.is_empty() && known.predecessors.is_empty());
            assert_eq!(known.bytes, 0);
        }
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let refreshes = refreshes();
        let failed = refreshes.join("a", async || Err(OAuthError::unavailable("away"))).await;
        assert!(failed.is_err());
        let broken = refreshes.join("a", async || panic!("it broke off")).await;
        assert_eq!(
            broken.map(drop),
            Err(OAuthError::unavailable("the refresh broke off; retry"))
        );
        refreshes.join("a", || answer(None, 3_600)).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let many = refreshes();
        for number in 0..=MAX_KEPT {
            let refresh = Some(format!("{number} next"));
            many.join(&number.to_string(), || answer(refresh, 3_600)).await.unwrap();
        }
        assert!(is_kept(&many, "0").await && !is_kept(&many, &MAX_KEPT.to_string()).await);
        assert_eq!(lock(&many.known).refreshes.len(), MAX_KEPT);

        let large = refreshes();
        for token in ["a", "b"] {
            let refresh = Some(format!("{token} {}", "x".repeat(MAX_BYTES / 2)));
            large.join(token, || answer(refresh, 3_600)).await.unwrap();
        }
        assert!(is_kept(&large, "a").await && !is_kept(&large, "b").await);
    }
}
