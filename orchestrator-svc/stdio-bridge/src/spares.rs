//! What takes long to make, for callers who may give up waiting: it is handed to those who still wait.
//!
//! A caller does not wait for what was made for it, but for the next that is ready, in the order of arrival. No more are made than are waited
//! for, so there are unused ones only when callers have given up: at most as many as are made at one time.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::{Mutex, watch};

/// What is ready and unused, and how many callers wait.
pub(crate) struct Spares<T> {
    state: Arc<watch::Sender<State<T>>>,
    /// Locked by the caller who is next. The lock is fair.
    turn: Mutex<()>,
    /// How many are made at one time.
    at_once: usize,
}

struct State<T> {
    unused: VecDeque<T>,
    making: usize,
    waiting: usize,
}

/// A caller who waits, until it is dropped.
pub(crate) struct Waiting<T>(Arc<watch::Sender<State<T>>>);

/// One that is being made, until it is dropped.
pub(crate) struct Making<T>(Arc<watch::Sender<State<T>>>);

impl<T> Spares<T> {
    pub(crate) fn new(at_once: usize) -> Self {
        let state = State {
            unused: VecDeque::new(),
            making: 0,
            waiting: 0,
        };
        Self {
            state: Arc::new(watch::Sender::new(state)),
            turn: Mutex::default(),
            at_once,
        }
    }

    /// Counts a caller.
    pub(crate) fn wait(&self) -> Waiting<T> {
        self.state.send_modify(|state| state.waiting += 1);
        Waiting(Arc::clone(&self.state))
    }

    /// The next that is ready. Cancel-safe, but a caller who calls it again is the last.
    pub(crate) async fn next(&self) -> T {
        let _turn = self.turn.lock().await;
        self.take(|state| state.unused.pop_front()).await
    }

    /// Waits until fewer are unused or being made than are waited for.
    pub(crate) async fn required(&self) -> Making<T> {
        let at_once = self.at_once;
        self.take(|state| {
            let required = state.making < at_once && state.making + state.unused.len() < state.waiting;
            state.making += usize::from(required);
            required.then_some(())
        })
        .await;
        Making(Arc::clone(&self.state))
    }

    /// Adds one that is ready.
    pub(crate) fn add(&self, spare: T) {
        self.state.send_modify(|state| state.unused.push_back(spare));
    }

    /// Removes unused ones.
    pub(crate) fn remove(&self, which: impl FnMut(&T) -> bool) -> VecDeque<T> {
        let mut removed = VecDeque::new();
        self.state.send_modify(|state| {
            let unused = std::mem::take(&mut state.unused).into_iter();
            (removed, state.unused) = unused.partition(which);
        });
        removed
    }

    /// Waits until there is something to take from the state.
    async fn take<R>(&self, mut take: impl FnMut(&mut State<T>) -> Option<R>) -> R {
        let mut changes = self.state.subscribe();
        loop {
            let mut taken = None;
            self.state.send_if_modified(|state| {
                taken = take(state);
                taken.is_some()
            });
            if let Some(taken) = taken {
                return taken;
            }
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }
}

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.waiting -= 1);
    }
}

impl<T> Drop for Making<T> {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.making -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use pretty_assertions::assert_eq;

    use super::*;

    #[tokio::test]
    async fn no_more_are_made_than_are_waited_for() {
        let spares = Spares::new(2);
        let required = || spares.required().now_or_never();
        assert!(required().is_none(), "nobody waits");
        let one = spares.wait();
        let making = required().unwrap();
        assert!(required().is_none(), "the caller's own is being made");
        let (two, three) = (spares.wait(), spares.wait());
        let another = required().unwrap();
        assert!(required().is_none(), "two are made at one time");
        spares.add('a');
        drop((making, one, two));
        assert!(required().is_none(), "one is unused and one is being made");
        spares.add('b');
        drop((another, three));
        let _four = spares.wait();
        assert!(required().is_none(), "two are unused");
        assert_eq!([spares.next().await, spares.next().await], ['a', 'b']);
        assert!(required().is_some());
    }

    #[tokio::test]
    async fn callers_are_served_in_the_order_of_arrival() {
        let spares = Spares::new(1);
        let [mut one, mut two, mut three] = [(); 3].map(|()| Box::pin(spares.next()));
        for next in [&mut one, &mut two, &mut three] {
            assert_eq!(next.now_or_never(), None);
        }
        spares.add('a');
        assert_eq!((&mut two).now_or_never(), None, "another is first");
        drop(one);
        assert_eq!((&mut three).now_or_never(), None);
        assert_eq!(two.await, 'a');
        spares.add('b');
        assert_eq!(three.await, 'b');
    }
}
