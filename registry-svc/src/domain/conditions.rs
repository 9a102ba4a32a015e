//! The conditions that apply to an installation, and the state that follows from them.

use contracts::registry::{
    Condition, ConditionStatus, ConditionType, Entry, Installation, InstallationState, entry::Server,
};
use prost_types::Timestamp;

/// The reason of a condition nobody has reported yet.
const NOT_REPORTED: &str = "NOT_REPORTED";
/// credential-svc's reason while a required secret has not been entered.
const CREDENTIAL_REQUIRED: &str = "CREDENTIAL_REQUIRED";

/// The conditions of an installation that runs this revision of its entry; UNKNOWN `since` then where nothing was reported.
pub(crate) fn applicable(entry: &Entry, reported: Vec<Condition>, since: Option<Timestamp>) -> Vec<Condition> {
    let self_hosted = matches!(entry.server, Some(Server::SelfHosted(_)));
    [
        ConditionType::CredentialReady,
        ConditionType::RuntimeReady,
        ConditionType::ToolsDiscovered,
    ]
    .into_iter()
    .filter(|&aspect| aspect != ConditionType::RuntimeReady || self_hosted)
    .map(|aspect| {
        let reported = reported.iter().find(|condition| condition.r#type() == aspect);
        reported.cloned().unwrap_or_else(|| Condition {
            r#type: aspect.into(),
            status: ConditionStatus::Unknown.into(),
            reason: NOT_REPORTED.to_owned(),
            message: String::new(),
            observed_generation: 0,
            transition_time: since,
        })
    })
    .collect()
}

/// The state that follows from an installation's conditions, deletion and past.
pub(crate) fn state(installation: &Installation) -> InstallationState {
    if installation.delete_time.is_some() {
        return InstallationState::Deleting;
    }
    let conditions = &installation.conditions;
    let is_false = |condition: &&Condition| condition.status() == ConditionStatus::False;
    // What cannot work before a credential is entered for the first time has not failed.
    let credential_awaited = installation.first_ready_time.is_none()
        && conditions.iter().filter(is_false).any(|condition| {
            condition.r#type() == ConditionType::CredentialReady && condition.reason == CREDENTIAL_REQUIRED
        });
    if !credential_awaited && conditions.iter().any(|condition| is_false(&condition)) {
        return InstallationState::Failed;
    }
    if conditions
        .iter()
        .all(|condition| condition.status() == ConditionStatus::True)
    {
        InstallationState::Ready
    } else {
        InstallationState::Pending
    }
}

#[cfg(test)]
mod tests {
    use contracts::registry::SelfHostedServer;

    use super::*;

    fn condition(aspect: ConditionType, status: ConditionStatus, reason: &str) -> Condition {
        Condition {
            r#type: aspect.into(),
            status: status.into(),
            reason: reason.to_owned(),
            ..Condition::default()
        }
    }

    fn of(conditions: Vec<Condition>) -> Installation {
        Installation {
            conditions,
            ..Installation::default()
        }
    }

    #[test]
    fn runtime_applies_to_self_hosted_servers_alone() {
        assert_eq!(applicable(&Entry::default(), Vec::new(), None).len(), 2);
        let server = Some(Server::SelfHosted(SelfHostedServer::default()));
        let conditions = applicable(
            &Entry {
                server,
                ..Entry::default()
            },
            Vec::new(),
            None,
        );
        assert_eq!(conditions.len(), 3);
        assert_eq!(state(&of(conditions)), InstallationState::Pending);
    }

    #[test]
    fn a_missing_credential_fails_only_what_was_ready_before() {
        let missing = condition(
            ConditionType::CredentialReady,
            ConditionStatus::False,
            CREDENTIAL_REQUIRED,
        );
        let unknown = condition(ConditionType::ToolsDiscovered, ConditionStatus::Unknown, NOT_REPORTED);
        let mut installation = of(vec![missing, unknown]);
        assert_eq!(state(&installation), InstallationState::Pending);
        installation.first_ready_time = Some(Timestamp::default());
        assert_eq!(state(&installation), InstallationState::Failed);
        installation.delete_time = Some(Timestamp::default());
        assert_eq!(state(&installation), InstallationState::Deleting);
    }

    #[test]
    fn is_ready_when_all_that_applies_is_true() {
        let credential = condition(ConditionType::CredentialReady, ConditionStatus::True, "STORED");
        let tools = condition(ConditionType::ToolsDiscovered, ConditionStatus::True, "DISCOVERED");
        assert_eq!(state(&of(vec![credential.clone(), tools])), InstallationState::Ready);
        let broken = condition(
            ConditionType::ToolsDiscovered,
            ConditionStatus::False,
            "UPSTREAM_REFUSED",
        );
        assert_eq!(state(&of(vec![credential, broken])), InstallationState::Failed);
    }
}
