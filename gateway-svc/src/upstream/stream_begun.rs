//! How long calls wait until the stream of their session has begun, on which the server may say something beside the answer.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

/// How long a call waits until the stream of its session has begun.
pub(super) const BEGUN: Duration = Duration::from_secs(1);

/// Whether the stream of a session has begun, as far as calls wait for it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct StreamBegun(Arc<watch::Sender<bool>>);

impl Default for StreamBegun {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl StreamBegun {
    /// It has begun, or cannot be opened.
    pub(crate) fn set(&self) {
        self.0.send_replace(true);
    }

    /// It is over, and another may begin.
    pub(super) fn end(&self) {
        self.0.send_replace(false);
    }

    /// Waits until it has begun. After one wait that is in vain nobody waits for it any more.
    pub(crate) async fn wait(&self) {
        if timeout(BEGUN, self.0.subscribe().wait_for(|begun| *begun))
            .await
            .is_err()
        {
            self.set();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_call_waits_for_a_stream_that_does_not_begin() {
        let (begun, since) = (StreamBegun::default(), Instant::now());
        begun.wait().await;
        assert_eq!(since.elapsed(), BEGUN);
        begun.wait().await;
        assert_eq!(since.elapsed(), BEGUN);
    }
}
