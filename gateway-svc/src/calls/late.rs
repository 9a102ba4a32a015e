//! The moment from which no call waits for its answer.

use std::{
    mem::take,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use thread_local::ThreadLocal;

/// Comes a while after the gateway has begun to stop. All calls wait for it: each thread has a list of those that began to wait there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Late(Arc<Lanes>);

#[derive(Debug, Default)]
struct Lanes {
    of_threads: ThreadLocal<Arc<Lane>>,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    has_come: bool,
    lanes: Vec<Arc<Lane>>,
}

/// Who waits by one thread.
#[derive(Debug, Default)]
struct Lane(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    has_come: bool,
    /// By their places.
    wakers: Vec<Option<Waker>>,
    /// Places that are free.
    free: Vec<usize>,
}

impl Late {
    /// It has come.
    pub(crate) fn come(&self) {
        let mut all = lock(&self.0.all);
        all.has_come = true;
        for lane in take(&mut all.lanes) {
            let mut waiting = lane.lock();
            waiting.has_come = true;
            let wakers = take(&mut waiting.wakers);
            drop(waiting);
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }

    /// Waits for it.
    pub(super) fn comes(&self) -> Comes<'_> {
        Comes {
            lanes: &self.0,
            place: None,
        }
    }
}

impl Lanes {
    fn own(&self) -> &Lane {
        self.of_threads.get_or(|| {
            let mut all = lock(&self.all);
            let lane = Arc::<Lane>::default();
            lane.lock().has_come = all.has_come;
            all.lanes.push(Arc::clone(&lane));
            lane
        })
    }
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.0)
    }
}

/// Nothing panics between two changes that belong together.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiting {
    fn enter(&mut self, waker: Waker) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.wakers.push(None);
            self.wakers.len() - 1
        });
        self.wakers[place] = Some(waker);
        place
    }
}

/// Waits.
#[derive(Debug)]
pub(super) struct Comes<'a> {
    lanes: &'a Lanes,
    /// Its own, from the first poll on.
    place: Option<(&'a Lane, usize)>,
}

impl Future for Comes<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let lane = self.place.map_or_else(|| self.lanes.own(), |(lane, _)| lane);
        let mut waiting = lane.lock();
        if waiting.has_come {
            return Poll::Ready(());
        }
        // What a waker does when it is dropped is not known, and may be to end another wait.
        let last = match self.place {
            None => {
                self.place = Some((lane, waiting.enter(cx.waker().clone())));
                None
            }
            Some((_, place)) => match &mut waiting.wakers[place] {
                Some(waker) if waker.will_wake(cx.waker()) => None,
                waker => waker.replace(cx.waker().clone()),
            },
        };
        drop(waiting);
        drop(last);
        Poll::Pending
    }
}

impl Drop for Comes<'_> {
    fn drop(&mut self) {
        let Some((lane, place)) = self.place else { return };
        let mut waiting = lane.lock();
        // `None`: it has come.
        let waker = waiting.wakers.get_mut(place).and_then(Option::take);
        waiting.free.push(place);
        drop(waiting);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        task::Wake,
        thread,
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

    fn poll(comes: Pin<&mut Comes<'_>>, woken: &Arc<Woken>) -> Poll<()> {
        comes.poll(&mut Context::from_waker(&Waker::from(Arc::clone(woken))))
    }

    #[test]
    fn it_comes_to_all_who_wait_on_whichever_thread_and_to_those_who_come_later() {
        let (late, woken) = (Late::default(), Arc::default());
        let mut waits = pin!(late.comes());
        assert_eq!(poll(waits.as_mut(), &woken), Poll::Pending);
        thread::scope(|scope| {
            let elsewhere = scope.spawn(|| {
                let mut waits = Box::pin(late.comes());
                assert_eq!(poll(waits.as_mut(), &woken), Poll::Pending);
                waits
            });
            let mut elsewhere = elsewhere.join().unwrap();
            late.come();
            assert_eq!(woken.0.load(SeqCst), 2);
            assert_eq!(poll(elsewhere.as_mut(), &woken), Poll::Ready(()));
        });
        assert_eq!(poll(waits.as_mut(), &woken), Poll::Ready(()));
        assert_eq!(poll(pin!(late.comes()), &woken), Poll::Ready(()));
        let on_a_new_thread = || poll(pin!(late.comes()), &woken);
        assert_eq!(
            thread::scope(|scope| scope.spawn(on_a_new_thread).join().unwrap()),
            Poll::Ready(())
        );
    }

    #[test]
    fn who_polled_last_is_woken_and_who_waits_no_more_is_forgotten() {
        let late = Late::default();
        let (first, last, left): (Arc<Woken>, Arc<Woken>, Arc<Woken>) = Default::default();
        let mut waits = pin!(late.comes());
        for woken in [&first, &last] {
            assert_eq!(poll(waits.as_mut(), woken), Poll::Pending);
        }
        for _ in 0..3 {
            assert_eq!(poll(pin!(late.comes()), &left), Poll::Pending);
        }
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&left)), (1, 1));
        assert_eq!(late.0.own().lock().wakers.len(), 2, "a place is used again");
        late.come();
        let woken = [&first, &last, &left].map(|woken| woken.0.load(SeqCst));
        assert_eq!(woken, [0, 1, 0]);
    }
}
