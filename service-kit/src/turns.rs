//! Runs long computations without blocking the tasks that share their thread.
//!
//! There are two ways. [`off_thread`] requires owned data, and works on every runtime. [`in_place`] may borrow: the
//! computation keeps the thread, and the runtime moves the other tasks to another thread, which only a multi-threaded
//! runtime can do. On a single-threaded runtime, move the whole task to another one with [`on_runtime`] first.

use std::{
    panic::resume_unwind,
    sync::{Arc, LazyLock},
    thread::available_parallelism,
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinError,
};
use tokio_util::task::AbortOnDropHandle;

use crate::per_caller::PerCaller;

/// Decoding a message of this many bytes takes less than a millisecond, whatever its content (measured: 12 ns per
/// byte).
pub const SHORT: usize = 64 << 10;
/// A response or a form costs half as much per byte, because it is read once. Moving it to another thread and back
/// costs about as much as reading this many bytes.
const SHORT_TO_READ: usize = 2 * SHORT;

/// Limits concurrent long computations so that one processor, if there are several, is left for short tasks: with none
/// left, these would wait for the kernel's scheduler. Further computations wait without a thread.
static PLACES: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(places()));

fn places() -> usize {
    available_parallelism().map_or(1, usize::from).saturating_sub(1).max(1)
}

/// Runs a computation whose time grows with `bytes`: on a blocking thread if it is long, otherwise here.
pub async fn off_thread<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes <= SHORT_TO_READ {
        return work();
    }
    // The semaphore is never closed.
    let place = PLACES.acquire().await;
    // The closure owns the permit, because the computation continues if the caller is cancelled.
    let work = move || {
        let _place = place;
        work()
    };
    outcome(tokio::task::spawn_blocking(work)).await
}

/// Runs a computation whose time grows with `bytes` on this thread. If it is long, the other tasks of the thread move
/// to another one.
pub async fn in_place<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let others = || Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes <= SHORT || !others() {
        return work();
    }
    let _place = PLACES.acquire().await;
    tokio::task::block_in_place(work)
}

/// Runs a task that handles `bytes` on `runtime` if they are many, otherwise here. Dropping the returned future aborts
/// the task.
pub async fn on_runtime<T: Send + 'static>(
    bytes: usize,
    runtime: &Handle,
    task: impl Future<Output = T> + Send + 'static,
) -> T {
    if bytes <= SHORT {
        return task.await;
    }
    outcome(AbortOnDropHandle::new(runtime.spawn(task))).await
}

/// The result of a task as if it had run here: a panic continues.
async fn outcome<T>(task: impl Future<Output = Result<T, JoinError>>) -> T {
    match task.await {
        Ok(done) => done,
        Err(failed) if failed.is_panic() => resume_unwind(failed.into_panic()),
        // The task was cancelled because the runtime is shutting down; nobody waits for the result.
        Err(_) => std::future::pending().await,
    }
}

/// One long computation at a time for each caller: a caller with many waits only for their own.
#[derive(Debug)]
pub struct OwnTurns(PerCaller);

impl Default for OwnTurns {
    fn default() -> Self {
        Self(PerCaller::new(1))
    }
}

impl OwnTurns {
    /// Waits until the caller has no other long computation. Drop the returned permit when the computation ends. `None`
    /// if the computation is short.
    pub async fn take(&self, bytes: usize, caller: &Arc<str>) -> Option<OwnedSemaphorePermit> {
        if bytes <= SHORT {
            return None;
        }
        self.0.of(caller).acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        thread::{self, ThreadId},
        time::Duration,
    };

    use super::*;

    const LONG: usize = SHORT_TO_READ + 1;
    const TIMEOUT: Duration = Duration::from_secs(60);

    fn here() -> ThreadId {
        thread::current().id()
    }

    /// On a single worker thread, a task that blocked it would keep the other from running.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_tasks_run_during_a_long_computation() {
        let (come, wait) = mpsc::channel();
        let long = tokio::spawn(in_place(LONG, move || wait.recv_timeout(TIMEOUT)));
        tokio::spawn(async move { come.send(()) }).await.unwrap().unwrap();
        long.await.unwrap().expect("the other task ran meanwhile");
    }

    #[tokio::test]
    async fn other_tasks_run_on_a_single_threaded_runtime() {
        let (come, wait) = mpsc::channel();
        let long = off_thread(LONG, move || wait.recv_timeout(TIMEOUT));
        let (done, ()) = tokio::join!(long, async move { come.send(()).unwrap() });
        done.expect("the other task ran meanwhile");
    }

    #[tokio::test]
    async fn a_long_task_runs_on_the_other_runtime() {
        let others = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let at = |bytes| on_runtime(bytes, others.handle(), async { in_place(LONG, here).await });
        assert_eq!(at(SHORT).await, here());
        assert_ne!(at(LONG).await, here());
        // Dropping the future aborts the task.
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let task = on_runtime(LONG, others.handle(), async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        assert!(tokio::time::timeout(Duration::from_millis(1), task).await.is_err());
        while Arc::strong_count(&alive) > 1 {
            tokio::task::yield_now().await;
        }
        others.shutdown_background();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn concurrent_long_computations_are_limited() {
        static NOW: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let work = || {
            MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::yield_now();
            NOW.fetch_sub(1, Ordering::SeqCst);
        };
        let tasks: Vec<_> = (0..places() * 8)
            .flat_map(|_| [tokio::spawn(in_place(LONG, work)), tokio::spawn(off_thread(LONG, work))])
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!((1..=places()).contains(&MOST.load(Ordering::SeqCst)));
    }

    #[tokio::test]
    async fn each_caller_waits_only_for_their_own() {
        let turns = OwnTurns::default();
        let (alice, bob): (Arc<str>, Arc<str>) = ("users/alice".into(), "users/bob".into());
        let first = turns.take(LONG, &alice).await;
        assert!(
            turns.take(SHORT, &alice).await.is_none(),
            "a short computation does not wait"
        );
        let mut second = std::pin::pin!(turns.take(LONG, &alice));
        assert!(futures::poll!(&mut second).is_pending());
        assert!(turns.take(LONG, &bob).await.is_some());
        drop(first);
        assert!(second.await.is_some());
    }

    #[tokio::test]
    async fn short_computations_stay_on_their_thread() {
        assert_eq!(off_thread(SHORT_TO_READ, here).await, here());
        assert_eq!(in_place(SHORT, here).await, here());
        assert_ne!(off_thread(LONG, here).await, here());
    }

    #[tokio::test]
    #[should_panic(expected = "as here")]
    async fn a_panic_continues_in_the_caller() {
        off_thread(LONG, || panic!("as here")).await;
    }
}
