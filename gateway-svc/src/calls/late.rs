//! The moment from which no call waits for its answer.

use std::sync::Arc;

use thread_local::ThreadLocal;
use tokio_util::sync::CancellationToken;

/// Comes a while after the gateway has begun to stop. Each thread has a token of its own: all calls wait for it, and whoever does takes its lock.
#[derive(Clone, Debug)]
pub(super) struct Late(Arc<Tokens>);

#[derive(Debug)]
struct Tokens {
    of_all: CancellationToken,
    of_threads: ThreadLocal<CancellationToken>,
}

impl Late {
    /// When this is cancelled.
    pub(super) fn new(of_all: CancellationToken) -> Self {
        let of_threads = ThreadLocal::new();
        Self(Arc::new(Tokens { of_all, of_threads }))
    }

    /// Waits for it.
    pub(super) async fn comes(&self) {
        let Tokens { of_all, of_threads } = &*self.0;
        of_threads.get_or(|| of_all.child_token()).cancelled().await;
    }
}
