//! Reconciles one installation: decides what should run for it, and applies that to the runtime.

use std::sync::Arc;

use contracts::registry::ConditionStatus;
use registry_model::install_fields::server_requires_secrets;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    cleanup::{Deleted, clean_up},
    compose::{compose, self_hosted},
    context::Context,
    desired::{Credentials, Desired},
    vend::Vended,
};
use crate::domain::{
    spec::{Missing, ServerSpec},
    status::{Held, State},
};

/// The reconciler of one installation.
pub(super) struct Reconciler {
    pub(super) uid: String,
    pub(super) context: Arc<Context>,
    pub(super) desired: watch::Receiver<Arc<Desired>>,
    /// The installation is no longer in the registry.
    pub(super) gone: CancellationToken,
    /// The service stops.
    pub(super) stop: CancellationToken,
    /// Whether the last call to the runtime was `apply`.
    pub(super) applied: bool,
}

/// What the runtime should do for an installation.
enum Decision {
    Run(ServerSpec),
    Hold(Held),
    /// Keep the previous desired state.
    Wait,
}

impl Reconciler {
    /// Runs until the installation is gone, or the service stops.
    pub(super) async fn run(mut self) {
        // The server may have kept running since an earlier process of the service.
        let status = self.context.runtime.status(&self.uid);
        self.applied = status.is_some_and(|status| status.state != State::Pending);
        loop {
            let desired = Arc::clone(&self.desired.borrow_and_update());
            if desired.installation.delete_time.is_some() {
                if self.delete().await {
                    return;
                }
                continue;
            }
            match self.decide(&desired) {
                Decision::Run(spec) => {
                    self.applied = true;
                    self.context.runtime.apply(&self.uid, spec).await;
                }
                Decision::Hold(held) => {
                    self.applied = false;
                    self.context.runtime.hold(&self.uid, held).await;
                }
                Decision::Wait => {}
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.gone.cancelled() => return self.context.runtime.stop(&self.uid).await,
                changed = self.desired.changed() => if changed.is_err() { return },
            }
        }
    }

    fn decide(&self, desired: &Desired) -> Decision {
        // A running server is kept until it is known what should run.
        let Some(revision) = &desired.revision else {
            return Decision::Wait;
        };
        let generation = desired.installation.generation;
        let hold = |missing: Missing, expected| {
            Decision::Hold(Held {
                reason: missing.reason,
                message: missing.message,
                generation,
                expected,
            })
        };
        let Some(server) = self_hosted(revision) else {
            let missing = Missing {
                reason: "NOT_SELF_HOSTED",
                message: "The entry's server is remote; no server runs here.".to_owned(),
            };
            return hold(missing, false);
        };
        let credentials = if server_requires_secrets(&revision.install_fields) {
            Credentials::of(desired, revision)
        } else {
            Credentials::NONE
        };
        let secrets = Vended {
            credential: self.context.credential.clone(),
            installation: Arc::clone(&desired.installation),
            revision: Arc::clone(revision),
        };
        let composed = compose(
            &desired.installation,
            revision,
            server,
            credentials.generations,
            Arc::new(secrets),
        );
        let spec = match composed {
            Ok(spec) => spec,
            Err(missing) => return hold(missing, true),
        };
        if credentials.are_undecided() {
            // A running server is kept, for the generation it was started for, until credential-svc has reported.
            if self.applied {
                return Decision::Wait;
            }
            let missing = Missing {
                reason: "CREDENTIAL_PENDING",
                message: "The credential is being checked.".to_owned(),
            };
            return hold(missing, true);
        }
        if let Some(message) = awaited(credentials) {
            let missing = Missing {
                reason: "CREDENTIAL_REQUIRED",
                message: message.to_owned(),
            };
            return hold(missing, true);
        }
        Decision::Run(spec)
    }

    /// Removes the server and its files, and reports that nothing is left. Returns false if the installation is not deleted after all, which is
    /// so after the registry was restored: what is stored from then on must be kept.
    async fn delete(&mut self) -> bool {
        self.applied = false;
        let deleted = Deleted::Installation(self.uid.clone());
        let mut desired = self.desired.clone();
        let restored = async {
            desired
                .wait_for(|desired| desired.installation.delete_time.is_none())
                .await
                .is_ok()
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => true,
            restored = restored => !restored,
            () = self.gone.cancelled() => {
                self.context.runtime.stop(&self.uid).await;
                true
            }
            () = clean_up(&self.context, &deleted) => true,
        }
    }
}

/// What a server waits for that does not get its secrets yet.
fn awaited(credentials: Credentials) -> Option<&'static str> {
    if credentials.own == ConditionStatus::False {
        Some("The server starts after its owner has entered the credential and confirmed its destination.")
    } else if credentials.entry == ConditionStatus::False {
        Some("The server starts after an admin has stored the entry's credential or confirmed its destination.")
    } else {
        None
    }
}
