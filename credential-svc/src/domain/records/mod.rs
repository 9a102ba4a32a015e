//! The store, and what was read of it lately for vends.
//!
//! What is kept decides nothing but that a secret is still what it was: it is used only by vends that succeed with it, and only where it
//! is of the generation that the registry shows and the caller knows. Whoever changes a value forgets what was kept of it, before the
//! store is asked and after.

mod kept;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, ready},
};
use service_kit::Clock;

use self::kept::Kept;
pub(crate) use self::kept::{Limit, Seen};
use super::{
    owner::Owner,
    ports::{Store, StoreError, Version, Written},
    record::Value,
};

/// A store, with what was read of it.
#[derive(Debug)]
pub(crate) struct Records<S>(Arc<Inner<S>>);

#[derive(Debug)]
struct Inner<S> {
    store: S,
    clock: Clock,
    state: Mutex<State>,
    /// Whether the store answered when it was last checked.
    answers: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    kept: Kept,
    /// Those that are under way, one of an owner at a time.
    reads: HashMap<Owner, Read>,
    /// Orders reads and those who ask for them.
    tick: u64,
}

#[derive(Clone, Debug)]
struct Read {
    began: u64,
    answer: Shared<BoxFuture<'static, Result<Seen, StoreError>>>,
}

/// The same store, and what was read of it.
impl<S> Clone for Records<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Store> Records<S> {
    pub(crate) fn new(store: S, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            store,
            clock,
            state: Mutex::default(),
            answers: AtomicBool::new(true),
        }))
    }

    /// As [`Store::read`].
    pub(crate) async fn read(&self, owner: &Owner) -> Result<Option<(Version, Value)>, StoreError> {
        self.0.store.read(owner).await
    }

    /// As [`Store::write`].
    pub(crate) async fn write(&self, owner: &Owner, expected: Version, value: Value) -> Result<Written, StoreError> {
        let _changing = Changing::begin(&self.0, owner);
        self.0.store.write(owner, expected, value).await
    }

    /// As [`Store::delete`].
    pub(crate) async fn delete(&self, owner: &Owner) -> Result<(), StoreError> {
        let _changing = Changing::begin(&self.0, owner);
        self.0.store.delete(owner).await
    }

    /// As [`Store::list`].
    pub(crate) async fn list(&self, after: Option<&Owner>, limit: usize) -> Result<Vec<Owner>, StoreError> {
        self.0.store.list(after, limit).await
    }

    /// As [`Store::check`]. Also removes what has been kept for too long, so it must be called again and again.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        let answer = self.0.store.check().await;
        self.0.answers.store(answer.is_ok(), Ordering::Relaxed);
        self.0.trim();
        answer
    }

    /// How old what is kept may be while the store is as it was when last checked.
    pub(crate) fn limit(&self) -> Limit {
        match self.0.answers.load(Ordering::Relaxed) {
            true => Limit::Recent,
            false => Limit::Any,
        }
    }

    /// What is kept of an owner.
    pub(crate) fn kept(&self, owner: &Owner, limit: Limit) -> Option<Seen> {
        let now = self.0.clock.now_micros();
        self.0.state().kept.get(owner, limit, now)
    }

    /// Forgets what is kept of an owner.
    pub(crate) fn forget(&self, owner: &Owner) {
        self.0.forget(owner);
    }

    /// What the store has of an owner, and keeps it. Of all that ask while a read is under way, one makes the next.
    pub(crate) async fn latest(&self, owner: &Owner) -> Result<Seen, StoreError> {
        let asked = self.0.state().next_tick();
        loop {
            let Read { began, answer } = self.join(owner, asked);
            let outcome = answer.await;
            // One that began earlier may not have what the caller knows to be there.
            if began > asked {
                return outcome;
            }
        }
    }

    /// A read that began after the tick `asked` and is over, or the one that is under way, or the next.
    fn join(&self, owner: &Owner, asked: u64) -> Read {
        let mut state = self.0.state();
        if let Some((began, seen)) = state.kept.since(owner, asked) {
            let answer = ready(Ok(seen)).boxed().shared();
            return Read { began, answer };
        }
        if let Some(read) = state.reads.get(owner) {
            return read.clone();
        }
        let began = state.next_tick();
        let (inner, owned) = (Arc::clone(&self.0), owner.clone());
        // Ends even if nobody waits for it any more: the next call gets what it brings. What is dropped by a runtime that ends before it
        // runs must not take the lock that is held here.
        let task = tokio::spawn(async move {
            let reading = Reading {
                inner,
                owner: owned,
                began,
            };
            reading.run().await
        });
        let ended = task
            .map(|ended| ended.unwrap_or_else(|_| Err(StoreError::Unavailable("the read was interrupted".to_owned()))));
        let read = Read {
            began,
            answer: ended.boxed().shared(),
        };
        state.reads.insert(owner.clone(), read.clone());
        read
    }
}

impl<S> Inner<S> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Also a read that is under way is not kept: it may bring what was there before.
    fn forget(&self, owner: &Owner) {
        let mut state = self.state();
        let forgotten = (state.kept.remove(owner), state.reads.remove(owner));
        drop(state);
        drop(forgotten);
    }

    fn trim(&self) {
        let now = self.clock.now_micros();
        // One at a time: others need the lock, and secrets are wiped without it.
        loop {
            let removed = self.state().kept.pop(now);
            if removed.is_none() {
                return;
            }
        }
    }
}

impl State {
    fn next_tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    fn has(&self, owner: &Owner, began: u64) -> bool {
        self.reads.get(owner).is_some_and(|read| read.began == began)
    }
}

/// A read that is under way. It is removed from the state when dropped.
struct Reading<S> {
    inner: Arc<Inner<S>>,
    owner: Owner,
    began: u64,
}

impl<S: Store> Reading<S> {
    async fn run(self) -> Result<Seen, StoreError> {
        let asked = self.inner.clock.now_micros();
        let answer = self.inner.store.read(&self.owner).await.map(|found| Seen {
            record: match found {
                Some((_, Value::Record(record))) => Some(Arc::new(record)),
                Some((_, Value::Erased { .. })) | None => None,
            },
            asked,
        });
        let former = {
            let mut state = self.inner.state();
            match &answer {
                _ if !state.has(&self.owner, self.began) => None,
                Ok(seen) => state.kept.put(&self.owner, seen.clone(), self.began),
                Err(StoreError::Unavailable(_)) => None,
                Err(_) => state.kept.remove(&self.owner),
            }
        };
        drop(former);
        self.inner.trim();
        answer
    }
}

impl<S> Drop for Reading<S> {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        if state.has(&self.owner, self.began) {
            state.reads.remove(&self.owner);
        }
    }
}

/// A change of an owner's value: whatever comes of it, what was read before its end is not kept.
struct Changing<'a, S> {
    inner: &'a Inner<S>,
    owner: &'a Owner,
}

impl<'a, S> Changing<'a, S> {
    fn begin(inner: &'a Inner<S>, owner: &'a Owner) -> Self {
        inner.forget(owner);
        Self { inner, owner }
    }
}

impl<S> Drop for Changing<'_, S> {
    fn drop(&mut self) {
        self.inner.forget(self.owner);
    }
}
