//! Long work, where others wait for their turn on the same thread.
//!
//! Two ways, by what the work needs. [`off_thread`] takes along what is its own, and works in every runtime. [`in_place`] may borrow: it
//! keeps the thread, and the other tasks go to another one, which only a runtime with several threads has. In a runtime with one thread, have the
//! whole task done [`on_runtime`] first.

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

/// Reading so many bytes of a message takes less than a millisecond, whatever they are (measured: 12 ns a byte).
pub const SHORT: usize = 64 << 10;
/// An answer or a form costs half as much: it is read once. To go to another thread and back costs as much as to read it then.
const SHORT_TO_READ: usize = 2 * SHORT;

/// So much long work at a time that one processor, if there are several, is left for what is short: with none, whoever waits for a turn
/// waits for the kernel's clock. The rest waits without a thread.
static PLACES: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(places()));

fn places() -> usize {
    available_parallelism().map_or(1, usize::from).saturating_sub(1).max(1)
}

/// Does work whose time grows with so many bytes: on another thread, where that is long.
pub async fn off_thread<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes <= SHORT_TO_READ {
        return work();
    }
    // It is never closed.
    let place = PLACES.acquire().await;
    // The work has the place, also when nobody waits for it any more.
    let work = move || {
        let _place = place;
        work()
    };
    outcome(tokio::task::spawn_blocking(work)).await
}

/// Does work whose time grows with so many bytes: on this thread, where that is long, and the other tasks of this thread go on on another.
pub async fn in_place<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let others = || Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes <= SHORT || !others() {
        return work();
    }
    let _place = PLACES.acquire().await;
    tokio::task::block_in_place(work)
}

/// Has a task that is about so many bytes done by `runtime`, where they are many. It ends with the future that is returned.
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

/// What comes of a task, as if it had run here: a panic, too.
async fn outcome<T>(task: impl Future<Output = Result<T, JoinError>>) -> T {
    match task.await {
        Ok(done) => done,
        Err(failed) if failed.is_panic() => resume_unwind(failed.into_panic()),
        // Nobody aborts it, and when the runtime ends, nobody waits for it.
        Err(_) => std::future::pending().await,
    }
}

/// One long piece of work at a time for each caller: whoever brings many waits for themselves, and others wait for one of theirs.
#[derive(Debug)]
pub struct OwnTurns(PerCaller);

impl Default for OwnTurns {
    fn default() -> Self {
        Self(PerCaller::new(1))
    }
}

impl OwnTurns {
    /// Waits for the caller's own turn, which lasts until what is returned is dropped; not for short work.
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
    const PATIENCE: Duration = Duration::from_secs(60);

    fn here() -> ThreadId {
        thread::current().id()
    }

    /// With one thread, a task that held it would keep the other from coming.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_go_on_during_long_work() {
        let (come, wait) = mpsc::channel();
        let long = tokio::spawn(in_place(LONG, move || wait.recv_timeout(PATIENCE)));
        tokio::spawn(async move { come.send(()) }).await.unwrap().unwrap();
        long.await.unwrap().expect("the other came meanwhile");
    }

    #[tokio::test]
    async fn so_they_do_where_there_is_one_thread() {
        let (come, wait) = mpsc::channel();
        let long = off_thread(LONG, move || wait.recv_timeout(PATIENCE));
        let (done, ()) = tokio::join!(long, async move { come.send(()).unwrap() });
        done.expect("the other came meanwhile");
    }

    #[tokio::test]
    async fn a_long_task_is_another_runtimes() {
        let others = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let at = |bytes| on_runtime(bytes, others.handle(), async { in_place(LONG, here).await });
        assert_eq!(at(SHORT).await, here());
        assert_ne!(at(LONG).await, here());
        // It ends with whoever waits for it.
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
    async fn there_is_only_so_much_long_work_at_a_time() {
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
    async fn each_caller_waits_for_themselves_alone() {
        let turns = OwnTurns::default();
        let (alice, bob): (Arc<str>, Arc<str>) = ("users/alice".into(), "users/bob".into());
        let first = turns.take(LONG, &alice).await;
        assert!(
            turns.take(SHORT, &alice).await.is_none(),
            "what is short waits for nobody"
        );
        let mut second = std::pin::pin!(turns.take(LONG, &alice));
        assert!(futures::poll!(&mut second).is_pending());
        assert!(turns.take(LONG, &bob).await.is_some());
        drop(first);
        assert!(second.await.is_some());
    }

    #[tokio::test]
    async fn short_work_stays() {
        assert_eq!(off_thread(SHORT_TO_READ, here).await, here());
        assert_eq!(in_place(SHORT, here).await, here());
        assert_ne!(off_thread(LONG, here).await, here());
    }

    #[tokio::test]
    #[should_panic(expected = "as here")]
    async fn panics_as_here() {
        off_thread(LONG, || panic!("as here")).await;
    }
}
