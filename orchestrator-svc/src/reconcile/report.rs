//! Tells the registry how servers do, until it shows it.

use std::{sync::Arc, time::Duration};

use contracts::registry::{
    Condition, ConditionStatus, ConditionType, ReportCleanupRequest, ReportConditionRequest, WatchedInstallation,
    report_cleanup_request::Subject, report_service_client::ReportServiceClient,
};
use tokio::sync::watch;
use tonic::{Code, transport::Channel};

use crate::domain::status::{State, Status};

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Reports one installation's status whenever the registry shows another. Ends when its supervisor does.
pub(crate) async fn report(
    registry: Channel,
    uid: String,
    mut wanted: watch::Receiver<Option<Status>>,
    mut shown: watch::Receiver<Arc<WatchedInstallation>>,
) {
    let mut client = ReportServiceClient::new(registry);
    let mut delay = FIRST_DELAY;
    // The last report taken, and the registry's revision that has it.
    let mut taken: Option<(ReportConditionRequest, i64)> = None;
    loop {
        let request = wanted.borrow_and_update().as_ref().map(|status| request(&uid, status));
        let current = Arc::clone(&shown.borrow_and_update());
        if let Some(request) = request.filter(|r| is_due(r, &current, taken.as_ref())) {
            match client.report_condition(request.clone()).await {
                Ok(response) => {
                    taken = Some((request, response.into_inner().revision));
                    delay = FIRST_DELAY;
                    continue;
                }
                // The installation is gone.
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) => {
                    tracing::warn!(installation.uid = %uid, error = %status.message(), "the runtime's state could not be reported");
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

fn request(uid: &str, status: &Status) -> ReportConditionRequest {
    let (condition, reason) = match status.state {
        State::Running => (ConditionStatus::True, "RUNNING"),
        State::Pending => (ConditionStatus::Unknown, status.reason.as_str()),
        State::Failed => (ConditionStatus::False, status.reason.as_str()),
    };
    ReportConditionRequest {
        installation_uid: uid.to_owned(),
        status: condition.into(),
        reason: reason.to_owned(),
        message: status.message.clone(),
        observed_generation: status.generation,
        runtime_endpoint: status.endpoint.clone(),
        credential_generation: 0,
    }
}

fn is_due(
    wanted: &ReportConditionRequest,
    shown: &WatchedInstallation,
    taken: Option<&(ReportConditionRequest, i64)>,
) -> bool {
    let Some(installation) = &shown.installation else {
        return false;
    };
    if let Some((last, revision)) = taken {
        if last != wanted {
            return true;
        }
        // Nothing has changed since the report; one that the registry found stale is not sent again and again.
        if installation.revision <= *revision {
            return false;
        }
    }
    let condition = installation
        .conditions
        .iter()
        .find(|c| c.r#type() == ConditionType::RuntimeReady);
    !condition.is_some_and(|c| is_shown(c, wanted)) || shown.runtime_endpoint != wanted.runtime_endpoint
}

fn is_shown(condition: &Condition, wanted: &ReportConditionRequest) -> bool {
    condition.status == wanted.status
        && condition.reason == wanted.reason
        && condition.observed_generation >= wanted.observed_generation
}

/// Reports that nothing is left. True once it is taken.
pub(crate) async fn cleaned_up(registry: &Channel, subject: Subject) -> bool {
    let request = ReportCleanupRequest { subject: Some(subject) };
    match ReportServiceClient::new(registry.clone()).report_cleanup(request).await {
        Ok(_) => true,
        Err(status) if status.code() == Code::NotFound => true,
        Err(status) => {
            tracing::warn!(error = %status.message(), "a cleanup could not be reported");
            false
        }
    }
}

/// As [`cleaned_up`], until it is taken.
pub(crate) async fn report_cleanup(registry: &Channel, subject: Subject) {
    let mut delay = FIRST_DELAY;
    while !cleaned_up(registry, subject.clone()).await {
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}

#[cfg(test)]
mod tests {
    use contracts::registry::Installation;

    use super::*;

    fn shown(reason: &str, endpoint: &str, revision: i64) -> WatchedInstallation {
        let condition = Condition {
            r#type: ConditionType::RuntimeReady.into(),
            status: ConditionStatus::True.into(),
            reason: reason.to_owned(),
            observed_generation: 2,
            ..Condition::default()
        };
        let installation = Installation {
            conditions: vec![condition],
            revision,
            ..Installation::default()
        };
        WatchedInstallation {
            installation: Some(installation),
            running_entry: None,
            runtime_endpoint: endpoint.to_owned(),
        }
    }

    #[test]
    fn reports_what_the_registry_does_not_show() {
        let mut status = Status::new(2);
        status.set(State::Running, "", "");
        status.endpoint = "unix:/new".to_owned();
        let wanted = request("u", &status);
        assert!(!is_due(&wanted, &shown("RUNNING", "unix:/new", 5), None));
        assert!(
            is_due(&wanted, &shown("RUNNING", "unix:/old", 5), None),
            "after a restart of the service"
        );
        let taken = (wanted.clone(), 7);
        assert!(
            !is_due(&wanted, &shown("RUNNING", "unix:/old", 5), Some(&taken)),
            "just reported"
        );
        let stale = shown("RUNNING", "unix:/old", 7);
        assert!(!is_due(&wanted, &stale, Some(&taken)), "accepted, but found stale");
        assert!(
            is_due(&wanted, &shown("RUNNING", "unix:/old", 8), Some(&taken)),
            "lost since"
        );
    }
}
