//! Another spec for a server that runs: the server is kept if, with its secrets, the spec makes the same launch.

use std::sync::Arc;

use super::{
    drawing::{Drawing, Drawn},
    server::{Comparing, Next, Server},
    supervisor::Supervisor,
};
use crate::domain::{spec::ServerSpec, status::State};

impl Supervisor {
    /// Begins to compare, unless the same spec is being compared already.
    pub(super) fn compare(&mut self, spec: &Arc<ServerSpec>, digest: String) {
        if let Server::Running { next: Some(next), .. } = &mut self.server {
            // It has the secrets of the spec before, and must not get a slot meanwhile.
            *next = Next::Due;
        }
        if self
            .comparing
            .as_ref()
            .is_none_or(|comparing| comparing.digest != digest)
        {
            let drawing = Drawing::new(Arc::clone(spec), &self.shared, false);
            self.comparing = Some(Comparing { digest, drawing });
        }
    }

    pub(super) async fn on_compared(&mut self, drawn: Drawn) {
        let compared = self.comparing.take();
        let Some((spec, digest)) =
            compared.and_then(|Comparing { digest, .. }| Some((self.still_desired(&digest)?, digest)))
        else {
            return;
        };
        let Drawn {
            spec: of,
            secrets,
            slot,
            ..
        } = drawn;
        let launch = self.launch(&spec, secrets).map(|launch| launch.fingerprint());
        // The calls of a server that is stopped may take long. Its successor draws again.
        drop(slot);
        match launch {
            Ok(fingerprint) => self.take_over(&spec, digest, fingerprint).await,
            Err(error) => self.not_drawn(&spec, &of, error).await,
        }
        self.resume_update(&spec).await;
    }

    /// Keeps the server that runs if it has the launch of the spec. Otherwise stops it, and starts the spec.
    async fn take_over(&mut self, spec: &Arc<ServerSpec>, digest: String, fingerprint: [u8; 32]) {
        self.undrawn = None;
        let is_restarted = matches!(self.server, Server::Running { next: Some(_), .. });
        if let Some(run) = self.server.run()
            && run.fingerprint == fingerprint
            && !is_restarted
            // Otherwise, a restart waited for an update that was cancelled, and is due now.
            && (!self.restart.as_ref().is_some_and(|restart| restart.updates) || self.fetching.is_some())
        {
            run.digest.clone_from(&digest);
            return self.update(|status| {
                status.generation = spec.generation;
                if status.state == State::Running {
                    status.spec_digest = digest;
                }
            });
        }
        self.failures = 0;
        self.announce(spec.generation, "The server is being started.");
        self.end_server().await;
        self.draw(spec, digest);
    }
}
