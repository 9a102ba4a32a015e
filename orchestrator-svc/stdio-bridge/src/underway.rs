//! Requests under way, and the end of their admission.

use std::sync::Arc;

use http::Response;
use http_body_util::BodyExt as _;
use tokio::sync::watch;

use crate::answer::Body;

/// Counts requests until their answers have gone out, and lets no more in once the server is to stop.
#[derive(Clone, Debug)]
pub(crate) struct Underway(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
struct State {
    requests: usize,
    closed: bool,
}

/// A request under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted(Arc<watch::Sender<State>>);

impl Default for Underway {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::default()))
    }
}

impl Underway {
    /// Lets a request in. `None`: no more are let in.
    pub(crate) fn admit(&self) -> Option<Admitted> {
        let admitted = self.0.send_if_modified(|state| {
            state.requests += usize::from(!state.closed);
            !state.closed
        });
        admitted.then(|| Admitted(Arc::clone(&self.0)))
    }

    /// Lets no more in, and waits until none is under way.
    pub(crate) async fn drain(&self) {
        self.0.send_modify(|state| state.closed = true);
        let mut state = self.0.subscribe();
        // The sender lives as long as `self`.
        let _ = state.wait_for(|state| state.requests == 0).await;
    }
}

impl Admitted {
    /// Keeps the request under way until its answer has gone out, or its client.
    pub(crate) fn until_answered(self, response: Response<Body>) -> Response<Body> {
        response.map(|body| {
            body.map_frame(move |frame| {
                let _admitted = &self;
                frame
            })
            .boxed_unsync()
        })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.requests -= 1);
    }
}
