//! Reaps every descendant of the bridge that ends, and notifies the tasks that wait for it.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::tree::{End, reap};

/// Nothing else reaps while servers run.
#[derive(Clone, Debug)]
pub(crate) struct Reaper(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The number of servers that are being started and whose process ids are not known yet.
    starting: usize,
    /// What ended while a server was being started: it may be that server.
    unclaimed: HashMap<i32, End>,
    awaited: HashMap<i32, watch::Sender<Option<End>>>,
}

/// A server that is being started.
#[derive(Debug)]
pub(crate) struct Starting(Reaper);

impl Reaper {
    /// Begins to reap.
    ///
    /// # Errors
    /// If signals cannot be listened for.
    pub(crate) fn begin() -> io::Result<Self> {
        let mut ended = signal(SignalKind::child())?;
        let reaper = Self(Arc::default());
        let this = reaper.clone();
        tokio::spawn(async move {
            while ended.recv().await.is_some() {
                this.lock().ended(reap());
            }
        });
        Ok(reaper)
    }

    /// Must be called before a server is started, and kept until its process id is known.
    pub(crate) fn starting(&self) -> Starting {
        self.lock().starting += 1;
        Starting(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Starting {
    /// Set once the process has ended.
    pub(crate) fn end_of(self, pid: i32) -> watch::Receiver<Option<End>> {
        let mut state = self.0.lock();
        let ended = state.unclaimed.remove(&pid);
        let (sender, receiver) = watch::channel(ended);
        if ended.is_none() {
            state.awaited.insert(pid, sender);
        }
        receiver
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.starting -= 1;
        if state.starting == 0 {
            state.unclaimed.clear();
        }
    }
}

impl State {
    fn ended(&mut self, ended: Vec<(i32, End)>) {
        for (pid, end) in ended {
            if let Some(awaited) = self.awaited.remove(&pid) {
                awaited.send_replace(Some(end));
            } else if self.starting > 0 {
                self.unclaimed.insert(pid, end);
            }
        }
    }
}
