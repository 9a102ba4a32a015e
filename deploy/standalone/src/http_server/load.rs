//! How busy a lane is.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// What a lane has at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) connections: usize,
    pub(super) requests: usize,
}

/// What a lane serves. Its thread writes it for each request, and the one that accepts connections reads it.
#[derive(Debug, Default)]
// A cache line of its own: lanes do not take it from each other.
#[repr(align(128))]
pub(super) struct Load {
    connections: AtomicUsize,
    /// Those whose response has not begun. A stream that waits for something to say costs no more than its connection.
    requests: AtomicUsize,
}

impl Load {
    pub(super) fn connection(self: &Arc<Self>) -> Counted {
        Counted::new(self, |load| &load.connections)
    }

    pub(super) fn request(self: &Arc<Self>) -> Counted {
        Counted::new(self, |load| &load.requests)
    }

    pub(super) fn seen(&self) -> Seen {
        Seen {
            connections: self.connections.load(Relaxed),
            requests: self.requests.load(Relaxed),
        }
    }
}

/// Something that a lane serves, until this is dropped.
pub(super) struct Counted {
    load: Arc<Load>,
    among: fn(&Load) -> &AtomicUsize,
}

impl Counted {
    fn new(load: &Arc<Load>, among: fn(&Load) -> &AtomicUsize) -> Self {
        among(load).fetch_add(1, Relaxed);
        let load = Arc::clone(load);
        Self { load, among }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.among)(&self.load).fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_not_counted() {
        let load = Arc::<Load>::default();
        let (connection, request) = (load.connection(), load.request());
        let seen = |connections, requests| Seen { connections, requests };
        assert_eq!(load.seen(), seen(1, 1));
        drop(request);
        assert_eq!(load.seen(), seen(1, 0));
        drop(connection);
        assert_eq!(load.seen(), seen(0, 0));
    }
}
