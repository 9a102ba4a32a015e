//! The cancellation of one piece of work.
//!
//! Unlike `CancellationToken` it has no children, and is made for what is begun often and cancelled seldom: it is one allocation, a clone is a
//! reference to it, and whether it is cancelled is read without a lock.

use std::{
    mem::{replace, take},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    task::{Context, Poll, Waker},
};

use smallvec::SmallVec;

/// Cancels what waits for it. All clones are one.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Set before `waiting` is emptied, so that nobody begins to wait who is not woken.
    is_cancelled: AtomicBool,
    waiting: Mutex<Waiting>,
}

/// Who waits, by the number of each. It is one task, as a rule.
#[derive(Debug, Default)]
struct Waiting {
    count: u64,
    wakers: SmallVec<[(u64, Waker); 1]>,
}

impl Cancel {
    /// Cancels it, for good.
    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Release);
        let wakers = take(&mut self.0.lock().wakers);
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    /// Whether it is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Acquire)
    }

    /// Whether the other is a clone of this.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Waits until it is.
    pub fn cancelled(&self) -> impl Future<Output = ()> + '_ {
        Cancelled {
            state: &self.0,
            number: None,
        }
    }

    /// What the work comes to, unless this is cancelled first. Large futures are passed pinned: by value, they are copied.
    pub async fn run_until_cancelled<F: Future>(&self, work: F) -> Option<F::Output> {
        let (mut work, mut cancelled) = (pin!(work), pin!(self.cancelled()));
        std::future::poll_fn(|cx| {
            if self.is_cancelled() {
                return Poll::Ready(None);
            }
            match work.as_mut().poll(cx) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending => cancelled.as_mut().poll(cx).map(|()| None),
            }
        })
        .await
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics between two changes that belong together.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the cancellation.
struct Cancelled<'a> {
    state: &'a State,
    /// Its own among those who wait.
    number: Option<u64>,
}

impl Future for Cancelled<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let state = self.state;
        if state.is_cancelled.load(Acquire) {
            return Poll::Ready(());
        }
        let mut waiting = state.lock();
        if state.is_cancelled.load(Acquire) {
            return Poll::Ready(());
        }
        let own = waiting
            .wakers
            .iter_mut()
            .find(|(number, _)| Some(*number) == self.number);
        // What a waker does when it is dropped is not known, and may be to end another wait.
        let last = match own {
            Some((_, waker)) if waker.will_wake(cx.waker()) => None,
            Some((_, waker)) => Some(replace(waker, cx.waker().clone())),
            None => {
                waiting.count += 1;
                let number = waiting.count;
                self.number = Some(number);
                waiting.wakers.push((number, cx.waker().clone()));
                None
            }
        };
        drop(waiting);
        drop(last);
        Poll::Pending
    }
}

impl Drop for Cancelled<'_> {
    fn drop(&mut self) {
        let Some(own) = self.number else { return };
        let mut waiting = self.state.lock();
        let place = waiting.wakers.iter().position(|(number, _)| *number == own);
        let waker = place.map(|place| waiting.wakers.swap_remove(place));
        drop(waiting);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        task::Wake,
    };

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn poll<T>(work: Pin<&mut impl Future<Output = T>>, woken: &Arc<Woken>) -> Poll<T> {
        work.poll(&mut Context::from_waker(&Waker::from(Arc::clone(woken))))
    }

    #[test]
    fn what_was_cancelled_before_is_not_begun() {
        let cancel = Cancel::default();
        cancel.cancel();
        let work = async { unreachable!("it is cancelled") };
        let (mut work, woken) = (pin!(cancel.run_until_cancelled(work)), Arc::default());
        assert_eq!(poll::<Option<()>>(work.as_mut(), &woken), Poll::Ready(None));
        assert_eq!(poll(pin!(cancel.cancelled()), &woken), Poll::Ready(()));
    }

    #[test]
    fn what_is_cancelled_between_two_polls_is_woken_and_ends() {
        let cancel = Cancel::default();
        let (mut work, woken) = (
            pin!(cancel.run_until_cancelled(std::future::pending::<()>())),
            Arc::default(),
        );
        for _ in 0..2 {
            assert_eq!(poll(work.as_mut(), &woken), Poll::Pending);
        }
        assert_eq!(cancel.0.lock().wakers.len(), 1);
        cancel.clone().cancel();
        assert_eq!(woken.0.load(SeqCst), 1);
        assert_eq!(poll(work.as_mut(), &woken), Poll::Ready(None));
    }

    #[test]
    fn what_is_cancelled_while_it_is_polled_ends() {
        let cancel = Cancel::default();
        let work = async {
            cancel.cancel();
            std::future::pending::<()>().await;
        };
        let woken = Arc::default();
        assert_eq!(poll(pin!(cancel.run_until_cancelled(work)), &woken), Poll::Ready(None));
    }

    #[test]
    fn work_that_is_done_ends_as_it_does() {
        let cancel = Cancel::default();
        let woken = Arc::default();
        assert_eq!(
            poll(pin!(cancel.run_until_cancelled(async { 1 })), &woken),
            Poll::Ready(Some(1))
        );
        assert_eq!(woken.0.load(SeqCst), 0);
    }

    #[test]
    fn who_polled_last_is_woken() {
        let cancel = Cancel::default();
        let (first, last): (Arc<Woken>, Arc<Woken>) = Default::default();
        let mut waits = pin!(cancel.cancelled());
        assert_eq!(poll(waits.as_mut(), &first), Poll::Pending);
        assert_eq!(poll(waits.as_mut(), &last), Poll::Pending);
        cancel.cancel();
        assert_eq!((first.0.load(SeqCst), last.0.load(SeqCst)), (0, 1));
    }

    #[test]
    fn all_who_wait_are_woken_and_those_who_do_not_any_more_are_forgotten() {
        let cancel = Cancel::default();
        let (first, second, third): (Arc<Woken>, Arc<Woken>, Arc<Woken>) = Default::default();
        let (mut waits, mut also) = (pin!(cancel.cancelled()), pin!(cancel.cancelled()));
        {
            let mut left = pin!(cancel.cancelled());
            assert_eq!(poll(left.as_mut(), &first), Poll::Pending);
            assert_eq!(poll(waits.as_mut(), &second), Poll::Pending);
            assert_eq!(poll(also.as_mut(), &third), Poll::Pending);
        }
        assert_eq!(Arc::strong_count(&first), 1);
        cancel.cancel();
        let woken = [&first, &second, &third].map(|woken| woken.0.load(SeqCst));
        assert_eq!(woken, [0, 1, 1]);
    }
}
