//! Reconciles one server: decides what should run for its owner, and applies that to the runtime.

use std::sync::Arc;

use contracts::registry::ConditionStatus;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    cleanup::clean_up,
    compose::{compose, self_hosted},
    context::Context,
    desired::{Credentials, Desired, Owner},
    vend::Vended,
};
use crate::domain::{
    spec::{Missing, ServerSpec},
    status::{Held, State},
};

/// The reconciler of the server of one installation, or of the one that an entry's installations share.
pub(super) struct Reconciler {
    pub(super) uid: String,
    pub(super) context: Arc<Context>,
    pub(super) desired: watch::Receiver<Arc<Desired>>,
    /// The owner is no longer in the registry.
    pub(super) gone: CancellationToken,
    /// The service stops.
    pub(super) stop: CancellationToken,
    /// Whether the last call to the runtime was `apply`.
    pub(super) applied: bool,
}

/// What the runtime should do for an owner.
enum Decision {
    Run(ServerSpec),
    Hold(Held),
    /// Keep the previous desired state.
    Wait,
}

impl Reconciler {
    /// Runs until the owner is gone, or the service stops.
    pub(super) async fn run(mut self) {
        // The server may have kept running since an earlier process of the service.
        let status = self.context.runtime.status(&self.uid);
        self.applied = status.is_some_and(|status| status.state != State::Pending);
        loop {
            let desired = Arc::clone(&self.desired.borrow_and_update());
            if desired.is_deleted() {
                if self.delete(&desired).await {
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

    fn decide(&self, desired: &Arc<Desired>) -> Decision {
        // A running server is kept until it is known what should run.
        let Some(revision) = &desired.revision else {
            return Decision::Wait;
        };
        let generation = desired.generation();
        let hold = |missing: Missing, expected| {
            Decision::Hold(Held {
                reason: missing.reason,
                message: missing.message,
                generation,
                expected,
            })
        };
        let Some(server) = desired.server() else {
            return hold(nothing(desired), false);
        };
        if matches!(&desired.owner, Owner::Entry(entry) if !entry.in_use) {
            let missing = Missing {
                reason: "NOT_INSTALLED",
                message: "No installation uses the server; it starts when the entry is installed.".to_owned(),
            };
            return hold(missing, false);
        }
        let credentials = Credentials::of(desired, revision);
        let secrets = Vended {
            credential: self.context.credential.clone(),
            desired: Arc::clone(desired),
            revision: Arc::clone(revision),
        };
        let composed = compose(
            &desired.values(),
            generation,
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

    /// Removes the server and its files, and reports that nothing is left. Returns false if the owner is not deleted after all, which is
    /// so after the registry was restored: what is stored from then on must be kept.
    async fn delete(&mut self, desired: &Desired) -> bool {
        self.applied = false;
        let deleted = desired.deleted();
        let mut desired = self.desired.clone();
        let restored = async { desired.wait_for(|desired| !desired.is_deleted()).await.is_ok() };
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

/// Why no server runs for this owner.
fn nothing(desired: &Desired) -> Missing {
    let (reason, message) = match &desired.owner {
        Owner::Entry(_) => ("NOT_SHARED", "The entry's installations share no server."),
        Owner::Installation(_) if desired.revision.as_deref().and_then(self_hosted).is_some() => (
            "SHARED",
            "The installations of the entry share a server; none runs for this one alone.",
        ),
        Owner::Installation(_) => ("NOT_SELF_HOSTED", "The entry's server is remote; no server runs here."),
    };
    Missing {
        reason,
        message: message.to_owned(),
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
