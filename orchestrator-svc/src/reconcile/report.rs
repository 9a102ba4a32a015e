//! Reports the statuses of servers to the registry, until it shows them.

use std::{sync::Arc, time::Duration};

use contracts::registry::{
    ReportRuntimeRequest, Runtime, RuntimeLease, RuntimeState, installation::Scope, report_runtime_request::Subject,
    report_service_client::ReportServiceClient,
};
use tokio::sync::watch;
use tonic::Code;

use super::{context::Context, desired::Owner};

use crate::domain::status::{State, Status};

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// What the registry shows of an owner's runtime.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// Counts the snapshots. A new one may be of a restored database, which has lost reports.
    pub(crate) snapshot: u64,
    /// `None` if nothing was reported.
    pub(crate) runtime: Option<Arc<Runtime>>,
}

/// Who sees what is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// The owner of a personal installation, who may read its log.
    Owner,
    /// All members of a team, also those who may not read the log. It may have data of others.
    Team,
    /// All who see the entry, whose installations share the server. Its log may have data of all of them.
    Everybody,
}

impl Readers {
    pub(crate) fn of(owner: &Owner) -> Self {
        match owner {
            Owner::Installation(installation) if matches!(installation.scope, Some(Scope::User(_))) => Self::Owner,
            Owner::Installation(_) => Self::Team,
            Owner::Entry(_) => Self::Everybody,
        }
    }

    /// Whom those ask who may not read the log.
    fn guide(self) -> &'static str {
        match self {
            Self::Owner => "",
            Self::Team => {
                "Those who may manage the installation see what the server wrote with GetRuntime and StreamRuntimeLogs."
            }
            Self::Everybody => "Admins see what the server wrote with GetRuntime and StreamRuntimeLogs.",
        }
    }
}

/// A report that the registry accepted.
struct Accepted {
    request: ReportRuntimeRequest,
    /// The registry revision that has it.
    revision: i64,
    /// [`Shown::snapshot`] at that time.
    snapshot: u64,
}

/// Reports an owner's status whenever the registry shows another one. Ends with the owner's reconciler.
pub(crate) async fn report(
    context: Arc<Context>,
    uid: String,
    readers: Readers,
    mut wanted: watch::Receiver<Option<Status>>,
    mut shown: watch::Receiver<Shown>,
) {
    let mut client = ReportServiceClient::new(context.registry.clone());
    let mut delay = FIRST_DELAY;
    let mut accepted: Option<Accepted> = None;
    loop {
        let request = wanted
            .borrow_and_update()
            .as_ref()
            .map(|status| request(&uid, status, readers, &context.lease));
        let current = shown.borrow_and_update().clone();
        if let Some(request) = request.filter(|r| is_due(r, &current, accepted.as_ref())) {
            match client.report_runtime(request.clone()).await {
                Ok(response) => {
                    accepted = Some(Accepted {
                        request,
                        revision: response.into_inner().registry_revision,
                        snapshot: current.snapshot,
                    });
                    delay = FIRST_DELAY;
                    continue;
                }
                // The owner is gone.
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) => {
                    tracing::warn!(runtime.owner = %uid, error = %status.message(), "the runtime's state could not be reported");
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        changed = wanted.changed() => if changed.is_err() { return },
                    }
                    delay = (delay * 2).min(LONGEST_DELAY);
                    continue;
                }
            }
        }
        let changed = tokio::select! {
            changed = wanted.changed() => changed,
            changed = shown.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

fn request(uid: &str, status: &Status, readers: Readers, lease: &RuntimeLease) -> ReportRuntimeRequest {
    let told = status.told();
    let message = match readers {
        Readers::Owner => told.message,
        _ if told.message == told.summary => told.summary,
        _ => format!("{}\n{}", told.summary, readers.guide()),
    };
    let subject = match readers {
        Readers::Owner | Readers::Team => Subject::InstallationUid(uid.to_owned()),
        Readers::Everybody => Subject::EntryUid(uid.to_owned()),
    };
    let (state, reason) = match status.state {
        State::Running => (RuntimeState::Running, "RUNNING"),
        State::Pending => (RuntimeState::Pending, status.reason.as_str()),
        State::Failed => (RuntimeState::Failed, status.reason.as_str()),
    };
    ReportRuntimeRequest {
        subject: Some(subject),
        state: state.into(),
        reason: reason.to_owned(),
        message,
        observed_generation: status.generation,
        endpoint: status.endpoint.clone(),
        spec_digest: status.spec_digest.clone(),
        replicas: status.expected.into(),
        ready_replicas: (status.state == State::Running).into(),
        tool_list_changes: status.tool_list_changes,
        lease: Some(lease.clone()),
    }
}

fn is_due(wanted: &ReportRuntimeRequest, shown: &Shown, accepted: Option<&Accepted>) -> bool {
    if let Some(accepted) = accepted.filter(|accepted| accepted.snapshot == shown.snapshot) {
        if accepted.request != *wanted {
            return true;
        }
        // Nothing has changed since the report. One that the registry found stale is not repeated.
        if shown
            .runtime
            .as_ref()
            .is_none_or(|r| r.registry_revision <= accepted.revision)
        {
            return false;
        }
    }
    !shown.runtime.as_ref().is_some_and(|runtime| is_shown(runtime, wanted))
}

fn is_shown(runtime: &Runtime, wanted: &ReportRuntimeRequest) -> bool {
    runtime.state == wanted.state
        && runtime.reason == wanted.reason
        && runtime.message == wanted.message
        && runtime.endpoint == wanted.endpoint
        && runtime.spec_digest == wanted.spec_digest
        && runtime.replicas == wanted.replicas
        && runtime.ready_replicas == wanted.ready_replicas
        && runtime.tool_list_changes == wanted.tool_list_changes
        && runtime.observed_generation >= wanted.observed_generation
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::domain::status::Told;

    fn running() -> ReportRuntimeRequest {
        let mut status = Status::starting(2);
        status.set(State::Running, "", "");
        status.endpoint = "unix:/new".to_owned();
        status.spec_digest = "abc".to_owned();
        request("u", &status, Readers::Owner, &RuntimeLease::default())
    }

    fn shown(endpoint: &str, registry_revision: i64) -> Shown {
        let runtime = Runtime {
            owner_uid: "u".to_owned(),
            state: RuntimeState::Running.into(),
            reason: "RUNNING".to_owned(),
            endpoint: endpoint.to_owned(),
            spec_digest: "abc".to_owned(),
            replicas: 1,
            ready_replicas: 1,
            observed_generation: 2,
            registry_revision,
            ..Runtime::default()
        };
        Shown {
            snapshot: 1,
            runtime: Some(Arc::new(runtime)),
        }
    }

    #[test]
    fn says_how_many_run() {
        let replicas = |status: &Status| {
            let request = request("u", status, Readers::Owner, &RuntimeLease::default());
            (request.state(), request.replicas, request.ready_replicas)
        };
        let mut status = Status::starting(1);
        assert_eq!(replicas(&status), (RuntimeState::Pending, 1, 0));
        status.set(State::Running, "", "");
        assert_eq!(replicas(&status), (RuntimeState::Running, 1, 1));
        status.set(State::Failed, "EXITED", "It ended.");
        assert_eq!(replicas(&status), (RuntimeState::Failed, 1, 0));
        status.expected = false;
        assert_eq!(replicas(&status).1, 0);
    }

    #[test]
    fn only_the_owner_reads_what_the_server_wrote() {
        let mut status = Status::starting(1);
        status.set(State::Running, "", "");
        let message = |status: &Status, readers| request("u", status, readers, &RuntimeLease::default()).message;
        assert_eq!(message(&status, Readers::Team), "");
        status.sessions = Told {
            message: "None starts: its text".to_owned(),
            summary: "None starts.".to_owned(),
        };
        assert_eq!(message(&status, Readers::Owner), "None starts: its text");
        for readers in [Readers::Team, Readers::Everybody] {
            assert_eq!(message(&status, readers), format!("None starts.\n{}", readers.guide()));
        }
    }

    #[test]
    fn reports_what_the_registry_does_not_show() {
        let wanted = running();
        assert!(is_due(&wanted, &Shown::default(), None), "nothing was reported");
        assert!(!is_due(&wanted, &shown("unix:/new", 5), None));
        assert!(
            is_due(&wanted, &shown("unix:/old", 5), None),
            "after a restart of the service"
        );
        let accepted = Accepted {
            request: wanted.clone(),
            revision: 7,
            snapshot: 1,
        };
        let due = |shown: &Shown| is_due(&wanted, shown, Some(&accepted));
        assert!(!due(&shown("unix:/old", 5)), "just reported");
        assert!(!due(&shown("unix:/old", 7)), "accepted, but found stale");
        assert!(due(&shown("unix:/old", 8)), "lost since");
        let none = Shown {
            snapshot: 1,
            runtime: None,
        };
        assert!(!due(&none), "just reported, for the first time");
        let restored = Shown {
            snapshot: 2,
            runtime: None,
        };
        assert!(due(&restored), "the registry has lost it");
    }
}
