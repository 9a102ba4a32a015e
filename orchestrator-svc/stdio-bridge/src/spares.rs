//! What takes long to make, for callers who may give up waiting: it is handed to those who still wait for the same.
//!
//! A caller does not wait for what was made for it, but for the next of its kind that is ready, in the order of arrival. No more are made than
//! are waited for, so there are unused ones only when callers have given up.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use tokio::sync::watch;

/// What is ready and unused, and how many callers wait. `K` is the kind of what one waits for.
pub(crate) struct Spares<K, T> {
    state: Arc<watch::Sender<State<K, T>>>,
    /// How many are made at one time.
    at_once: usize,
}

struct State<K, T> {
    unused: VecDeque<(K, T)>,
    making: Vec<K>,
    /// In the order of arrival.
    waiting: BTreeMap<u64, K>,
    next: u64,
}

impl<K: Eq, T> State<K, T> {
    fn waiting(&self, kind: &K) -> impl Iterator<Item = u64> {
        let of_kind = self.waiting.iter().filter(move |(_, other)| *other == kind);
        of_kind.map(|(number, _)| *number)
    }
}

/// A caller who waits, until it is dropped.
pub(crate) struct Waiting<K, T> {
    state: Arc<watch::Sender<State<K, T>>>,
    number: u64,
    kind: K,
}

/// One that is being made, until it is dropped.
pub(crate) struct Making<K: Eq, T> {
    state: Arc<watch::Sender<State<K, T>>>,
    kind: K,
}

impl<K: Clone + Eq, T> Spares<K, T> {
    pub(crate) fn new(at_once: usize) -> Self {
        let state = State {
            unused: VecDeque::new(),
            making: Vec::new(),
            waiting: BTreeMap::new(),
            next: 0,
        };
        Self {
            state: Arc::new(watch::Sender::new(state)),
            at_once,
        }
    }

    /// Counts a caller.
    pub(crate) fn wait(&self, kind: K) -> Waiting<K, T> {
        let mut number = 0;
        self.state.send_modify(|state| {
            number = state.next;
            state.next += 1;
            state.waiting.insert(number, kind.clone());
        });
        let state = Arc::clone(&self.state);
        Waiting { state, number, kind }
    }

    /// Waits until fewer of a kind are unused or being made than are waited for.
    pub(crate) async fn required(&self, kind: &K) -> Making<K, T> {
        let at_once = self.at_once;
        take(&self.state, |state| {
            let unused = state.unused.iter().map(|(other, _)| other);
            let there = unused.chain(&state.making).filter(|other| *other == kind).count();
            let required = state.making.len() < at_once && there < state.waiting(kind).count();
            required.then(|| state.making.push(kind.clone()))
        })
        .await;
        Making {
            state: Arc::clone(&self.state),
            kind: kind.clone(),
        }
    }

    /// Adds one that is ready.
    pub(crate) fn add(&self, kind: K, spare: T) {
        self.state.send_modify(|state| state.unused.push_back((kind, spare)));
    }

    /// Removes unused ones.
    pub(crate) fn remove(&self, mut which: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut removed = Vec::new();
        self.state.send_modify(|state| {
            let unused = std::mem::take(&mut state.unused).into_iter();
            let (taken, left): (VecDeque<_>, _) = unused.partition(|(_, spare)| which(spare));
            state.unused = left;
            removed.extend(taken.into_iter().map(|(_, spare)| spare));
        });
        removed
    }

    /// Removes the first unused one that nobody waits for.
    pub(crate) fn remove_idle(&self) -> Option<T> {
        let mut removed = None;
        self.state.send_if_modified(|state| {
            let idle = |(kind, _): &(K, T)| state.waiting(kind).next().is_none();
            let at = state.unused.iter().position(idle);
            removed = at.and_then(|at| state.unused.remove(at));
            removed.is_some()
        });
        removed.map(|(_, spare)| spare)
    }
}

impl<K: Eq, T> Waiting<K, T> {
    /// The next of its kind that is ready.
    pub(crate) async fn next(&self) -> T {
        take(&self.state, |state| {
            let first = state.waiting(&self.kind).next() == Some(self.number);
            let at = state.unused.iter().position(|(kind, _)| first && *kind == self.kind)?;
            state.unused.remove(at)
        })
        .await
        .1
    }
}

/// Waits until there is something to take from the state.
async fn take<K, T, R>(state: &watch::Sender<State<K, T>>, mut take: impl FnMut(&mut State<K, T>) -> Option<R>) -> R {
    let mut changes = state.subscribe();
    loop {
        let mut taken = None;
        state.send_if_modified(|state| {
            taken = take(state);
            taken.is_some()
        });
        if let Some(taken) = taken {
            return taken;
        }
        // The sender is borrowed.
        let _ = changes.changed().await;
    }
}

impl<K, T> Drop for Waiting<K, T> {
    fn drop(&mut self) {
        self.state.send_modify(|state| {
            state.waiting.remove(&self.number);
        });
    }
}

impl<K: Eq, T> Drop for Making<K, T> {
    fn drop(&mut self) {
        self.state.send_modify(|state| {
            let at = state.making.iter().position(|kind| *kind == self.kind);
            at.map(|at| state.making.swap_remove(at));
        });
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
        let required = || spares.required(&0).now_or_never();
        assert!(required().is_none(), "nobody waits");
        let one = spares.wait(0);
        let making = required().unwrap();
        assert!(required().is_none(), "the caller's own is being made");
        let (two, three) = (spares.wait(0), spares.wait(0));
        let another = required().unwrap();
        assert!(required().is_none(), "two are made at one time");
        spares.add(0, 'a');
        drop((making, one, two));
        assert!(required().is_none(), "one is unused and one is being made");
        spares.add(0, 'b');
        drop((another, three));
        let four = spares.wait(0);
        assert!(required().is_none(), "two are unused");
        assert_eq!([four.next().await, four.next().await], ['a', 'b']);
        assert!(required().is_some());
    }

    #[tokio::test]
    async fn callers_are_served_in_the_order_of_arrival() {
        let spares = Spares::new(1);
        let [one, two, three] = [(); 3].map(|()| spares.wait(0));
        spares.add(0, 'a');
        assert_eq!(two.next().now_or_never(), None, "another is first");
        drop(one);
        assert_eq!(three.next().now_or_never(), None);
        assert_eq!(two.next().await, 'a');
        drop(two);
        spares.add(0, 'b');
        assert_eq!(three.next().await, 'b');
    }

    #[tokio::test]
    async fn callers_get_what_is_of_their_kind() {
        let spares = Spares::new(2);
        let (one, two) = (spares.wait(1), spares.wait(2));
        spares.add(2, 'b');
        assert!(
            spares.required(&1).now_or_never().is_some(),
            "the unused one is another's"
        );
        assert_eq!(spares.remove_idle(), None, "it is waited for");
        assert_eq!(one.next().now_or_never(), None);
        assert_eq!(two.next().await, 'b', "whoever waits for another is not before it");
        spares.add(3, 'c');
        assert_eq!(spares.remove_idle(), Some('c'));
    }
}
