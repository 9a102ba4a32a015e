//! The way to servers that cannot be reached, for what no caller waits for, as the streams that break when a server is started again: one knocks for
//! all that wait to get to the same server, and when it gets through, the others follow.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use moka::sync::Cache;
use tokio::{
    sync::{self, Semaphore},
    time::{Instant, sleep_until, timeout},
};

use super::{
    error::UpstreamError,
    target::{Endpoint, Target},
};

/// Between two knocks, at first and at most. Up to as much again is added, so that replicas do not knock together.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(5);
/// So many follow at a time.
const AT_A_TIME: usize = 8;
/// One that takes longer makes room for the next: some servers begin to answer only when they have something to say.
const PASSES: Duration = Duration::from_secs(1);
/// One that knocks and has not failed in this time, which is longer than connecting may take, has got through.
const KNOCKS: Duration = Duration::from_secs(15);
const SERVERS: u64 = 20_000;
/// The door of a server that nobody has waited at for this time is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// What came of an attempt; `None`: it was not made, since it is wanted no longer or cannot be made.
pub(crate) type Tried<T> = Option<Result<T, UpstreamError>>;

/// By uid of the installation, and where its server is: a caller may still have what leads to where it was.
#[derive(Debug)]
pub(super) struct Doors(Cache<(Arc<str>, Endpoint), Arc<Door>>);

impl Default for Doors {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(SERVERS).time_to_idle(FORGOTTEN).build())
    }
}

/// That of one server.
#[derive(Debug)]
pub(super) struct Door {
    /// Who has it knocks if the door is shut; the others come to it in the order in which they have begun to wait.
    turn: sync::Mutex<()>,
    /// Set while the server cannot be reached.
    shut: Mutex<Option<Shut>>,
    /// For those that go through the open door.
    places: Semaphore,
}

#[derive(Debug)]
struct Shut {
    pauses: ExponentialBackoff,
    /// When somebody may knock.
    until: Instant,
}

impl Default for Shut {
    fn default() -> Self {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(FIRST)
            .with_max_delay(LONGEST)
            .without_max_times()
            .with_jitter()
            .build();
        let mut shut = Self {
            pauses,
            until: Instant::now(),
        };
        shut.pause();
        shut
    }
}

impl Shut {
    fn pause(&mut self) {
        self.until = Instant::now() + self.pauses.next().unwrap_or(LONGEST);
    }
}

impl Default for Door {
    fn default() -> Self {
        Self {
            turn: sync::Mutex::default(),
            shut: Mutex::default(),
            places: Semaphore::new(AT_A_TIME),
        }
    }
}

impl Doors {
    /// That of the server of this target.
    pub(super) fn of(&self, target: &Target) -> Arc<Door> {
        let key = (Arc::clone(target.installation()), target.key.endpoint.clone());
        self.0.get_with(key, Arc::default)
    }
}

impl Door {
    /// See [`Upstreams::once_reachable`](super::Upstreams::once_reachable).
    pub(super) async fn through<T, F>(&self, attempt: impl Fn() -> F) -> Tried<T>
    where
        F: Future<Output = Tried<T>>,
    {
        loop {
            let turn = self.turn.lock().await;
            let until = self.shut().as_ref().map(|shut| shut.until);
            let tried = match until {
                Some(until) => {
                    sleep_until(until).await;
                    self.knock(turn, attempt()).await
                }
                None => {
                    drop(turn);
                    let place = self.places.acquire().await.ok();
                    if self.shut().is_some() {
                        continue;
                    }
                    let tried = or_if_long(PASSES, attempt(), || drop(place)).await;
                    if fails(&tried) {
                        self.shut().get_or_insert_default();
                    }
                    tried
                }
            };
            if !fails(&tried) {
                return tried;
            }
        }
    }

    /// Whoever knocks next waits longer if it fails. One that is not tried, or given up meanwhile, leaves the door as it is, and the next may knock.
    async fn knock<T>(&self, turn: sync::MutexGuard<'_, ()>, attempt: impl Future<Output = Tried<T>>) -> Tried<T> {
        let mut turn = Some(turn);
        let tried = or_if_long(KNOCKS, attempt, || {
            *self.shut() = None;
            turn = None;
        })
        .await;
        let mut shut = self.shut();
        match &tried {
            Some(_) if fails(&tried) => match &mut *shut {
                Some(shut) if turn.is_some() => shut.pause(),
                Some(_) => {}
                none => *none = Some(Shut::default()),
            },
            Some(_) if turn.is_some() => *shut = None,
            _ => {}
        }
        drop(shut);
        tried
    }

    fn shut(&self) -> MutexGuard<'_, Option<Shut>> {
        // Nothing panics between two changes that belong together.
        self.shut.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an attempt shows that the server cannot be reached. What one client alone is refused with shows the contrary.
fn fails<T>(tried: &Tried<T>) -> bool {
    matches!(tried, Some(Err(error)) if error.is_unreachable())
}

/// Makes the attempt, and does something else beside it once it has taken this long.
async fn or_if_long<T>(long: Duration, attempt: impl Future<Output = T>, then: impl FnOnce()) -> T {
    let mut attempt = pin!(attempt);
    match timeout(long, &mut attempt).await {
        Ok(made) => made,
        Err(_) => {
            then();
            attempt.await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures::future::join_all;
    use pretty_assertions::assert_eq;

    use super::*;

    /// A server that can be reached from a moment on.
    struct Server {
        from: Instant,
        refused: AtomicUsize,
        /// Attempts at this moment, and the most that there were before it could be reached and since.
        trying: AtomicUsize,
        most: [AtomicUsize; 2],
    }

    impl Server {
        fn reached_in(time: Duration) -> Self {
            Self {
                from: Instant::now() + time,
                refused: AtomicUsize::new(0),
                trying: AtomicUsize::new(0),
                most: Default::default(),
            }
        }

        async fn attempt(&self) -> Tried<()> {
            let is_there = Instant::now() >= self.from;
            let trying = self.trying.fetch_add(1, Ordering::SeqCst) + 1;
            self.most[usize::from(is_there)].fetch_max(trying, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.trying.fetch_sub(1, Ordering::SeqCst);
            if is_there {
                return Some(Ok(()));
            }
            self.refused.fetch_add(1, Ordering::SeqCst);
            unreachable()
        }
    }

    fn unreachable<T>() -> Tried<T> {
        Some(Err(UpstreamError::Unreachable("no".to_owned())))
    }

    fn shut_door() -> Door {
        let door = Door::default();
        door.shut().get_or_insert_default();
        door
    }

    #[tokio::test(start_paused = true)]
    async fn one_knocks_for_all_and_the_others_follow() {
        const CLIENTS: usize = 1000;
        let away = Duration::from_secs(60);
        let (door, server, since) = (shut_door(), Server::reached_in(away), Instant::now());
        let all = (0..CLIENTS).map(|_| door.through(|| server.attempt()));
        assert!(join_all(all).await.into_iter().all(|tried| tried == Some(Ok(()))));
        let most = server.most.each_ref().map(|most| most.load(Ordering::SeqCst));
        assert_eq!(most, [1, AT_A_TIME]);
        // Each pause is longer than the one before, up to the longest.
        let refused = server.refused.load(Ordering::SeqCst);
        assert!((6..=15).contains(&refused), "{refused}");
        let all_follow = Duration::from_millis(10) * u32::try_from(CLIENTS.div_ceil(AT_A_TIME) + 1).unwrap();
        let latest = away + 2 * LONGEST + all_follow;
        assert!(since.elapsed() <= latest, "{:?}", since.elapsed());
    }

    /// Those that come while nothing is known of it, or have begun to go through.
    #[tokio::test(start_paused = true)]
    async fn few_go_to_a_server_that_has_just_gone() {
        let (door, server) = (Door::default(), Server::reached_in(Duration::from_secs(1)));
        let all = (0..100).map(|_| door.through(|| server.attempt()));
        assert!(join_all(all).await.into_iter().all(|tried| tried == Some(Ok(()))));
        let refused = server.refused.load(Ordering::SeqCst);
        assert!((AT_A_TIME..AT_A_TIME + 3).contains(&refused), "{refused}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_no_longer_holds_up_nobody() {
        let door = shut_door();
        let mut knocks = Box::pin(door.through(pending::<Tried<()>>));
        assert!(timeout(2 * FIRST, &mut knocks).await.is_err());
        let mut waits = Box::pin(door.through(pending::<Tried<()>>));
        let mut next = Box::pin(door.through(|| ready(Some(Ok(())))));
        assert!(timeout(FIRST, &mut waits).await.is_err());
        assert!(timeout(FIRST, &mut next).await.is_err());
        drop(waits);
        drop(knocks);
        let since = Instant::now();
        assert_eq!(next.await, Some(Ok(())));
        assert_eq!(since.elapsed(), Duration::ZERO);

        // The same for one that is wanted no longer when its turn comes.
        let door = shut_door();
        assert_eq!(door.through(|| ready(None::<Result<(), _>>)).await, None);
        assert!(door.shut().is_some());
        let since = Instant::now();
        assert_eq!(door.through(|| ready(Some(Ok(())))).await, Some(Ok(())));
        assert_eq!(since.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_to_one_client_does_not_hold_up_others() {
        let own = [
            UpstreamError::Unauthorized,
            UpstreamError::InsufficientScope { scopes: String::new() },
            UpstreamError::invalid("HTTP 400"),
        ];
        for error in own {
            for door in [Door::default(), shut_door()] {
                let refused = door.through(|| ready(Some(Err::<(), _>(error.clone())))).await;
                assert_eq!(refused, Some(Err(error.clone())));
                assert!(door.shut().is_none(), "it answers");
            }
        }
    }

    /// A server may begin to answer only when it has something to say.
    #[tokio::test(start_paused = true)]
    async fn who_takes_long_makes_room() {
        for door in [Door::default(), shut_door()] {
            let mut long: Vec<_> = (0..2 * AT_A_TIME)
                .map(|_| Box::pin(door.through(pending::<Tried<()>>)))
                .collect();
            let mut long = join_all(&mut long);
            let next = door.through(|| ready(Some(Ok(()))));
            tokio::select! {
                _ = &mut long => panic!("they get no answer"),
                passed = next => assert_eq!(passed, Some(Ok(()))),
            }
        }
    }
}
