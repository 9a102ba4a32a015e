//! Work that takes long, beside the bridge's one thread: it serves others meanwhile.

use std::sync::Arc;

use tokio::{
    sync::Semaphore,
    task::{JoinHandle, spawn_blocking},
};

/// In a longer text, secrets are masked aside: in one of 16 MiB, it takes a quarter of a second.
pub(crate) const LONG: usize = 64 << 10;

/// A place for one piece of work at a time, so that a server with many long answers occupies one processor and not all.
pub(crate) struct Aside(Arc<Semaphore>);

impl Default for Aside {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Aside {
    /// Begins when the place is free, and returns then.
    pub(crate) async fn begin<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let place = Arc::clone(&self.0).acquire_owned().await;
        spawn_blocking(move || {
            let _place = place;
            work()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use futures::FutureExt as _;

    use super::*;

    const LONG_AGO: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn the_thread_that_begins_work_goes_on() {
        let aside = Aside::default();
        let (go_on, wait) = mpsc::channel();
        let first = aside.begin(move || wait.recv_timeout(LONG_AGO)).await;
        assert!(aside.begin(|| ()).now_or_never().is_none());
        go_on.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(()));
        aside.begin(|| ()).await.await.unwrap();
    }
}
