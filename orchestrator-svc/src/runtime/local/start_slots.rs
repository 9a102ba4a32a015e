//! The slots for servers that are starting.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use super::place::{Place, acquire};

/// Whoever came first is served first, but a server whose predecessor still runs is served after those that nothing runs of.
#[derive(Debug)]
pub(super) struct StartSlots {
    pub(super) slots: Arc<Semaphore>,
    /// The turns of those whose predecessors run: one at a time waits for a slot.
    turns: Arc<Semaphore>,
    /// How many of the others wait for a slot.
    others: watch::Sender<usize>,
}

impl StartSlots {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            turns: Arc::new(Semaphore::new(1)),
            others: watch::Sender::default(),
        }
    }

    /// A place in the queue. `is_running`: the predecessor still runs.
    pub(super) fn place(&self, is_running: bool) -> Place {
        let (slots, others) = (Arc::clone(&self.slots), self.others.clone());
        if !is_running {
            let waiting = Waiting::new(others);
            return Place::of(async move {
                let slot = acquire(slots).await;
                drop(waiting);
                slot
            });
        }
        let turns = Arc::clone(&self.turns);
        Place::of(async move {
            let _turn = acquire(turns).await;
            let mut waiting = others.subscribe();
            loop {
                tokio::select! {
                    biased;
                    _ = waiting.wait_for(|others| *others > 0) => {}
                    slot = acquire(Arc::clone(&slots)) => return slot,
                }
                let _ = waiting.wait_for(|others| *others == 0).await;
            }
        })
    }
}

/// Counts as one that waits, until it is dropped.
struct Waiting(watch::Sender<usize>);

impl Waiting {
    fn new(others: watch::Sender<usize>) -> Self {
        others.send_modify(|others| *others += 1);
        Self(others)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.send_modify(|others| *others -= 1);
    }
}
