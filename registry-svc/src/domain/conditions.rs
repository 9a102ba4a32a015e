//! The conditions that apply to an installation, and the state that follows from them.

use contracts::registry::{Condition, ConditionStatus, ConditionType, Installation, InstallationState};
use prost_types::Timestamp;

/// The reason of a condition that was not reported yet.
const NOT_REPORTED: &str = "NOT_REPORTED";
/// credential-svc's reason while a required secret has not been entered.
const CREDENTIAL_REQUIRED: &str = "CREDENTIAL_REQUIRED";

/// The conditions of an installation that has a runtime of its own or not; UNKNOWN `since` then where nothing was reported.
pub(crate) fn applicable(own_runtime: bool, reported: &[Condition], since: Option<Timestamp>) -> Vec<Condition> {
    [
        ConditionType::CredentialReady,
        ConditionType::RuntimeReady,
        ConditionType::ToolsDiscovered,
    ]
    .into_iter()
    .filter(|&kind| kind != ConditionType::RuntimeReady || own_runtime)
    .map(|kind| {
        let reported = reported.iter().find(|condition| condition.r#type() == kind);
        reported.cloned().unwrap_or_else(|| Condition {
            r#type: kind.into(),
            status: ConditionStatus::Unknown.into(),
            reason: NOT_REPORTED.to_owned(),
            message: String::new(),
            observed_generation: 0,
            transition_time: since,
        })
    })
    .collect()
}

/// Those of an entry's reported conditions that still apply where its installations share a runtime or not.
pub(crate) fn of_entry(shared_runtime: bool, mut reported: Vec<Condition>) -> Vec<Condition> {
    reported.retain(|condition| condition.r#type() != ConditionType::RuntimeReady || shared_runtime);
    reported
}

/// Replaces the condition of the same type; its time moves only when its status does. Says whether anything changed.
pub(crate) fn replace(conditions: &mut Vec<Condition>, mut condition: Condition, now: Timestamp) -> bool {
    condition.transition_time = Some(now);
    let Some(known) = conditions.iter_mut().find(|known| known.r#type == condition.r#type) else {
        conditions.push(condition);
        return true;
    };
    if known.status == condition.status && known.transition_time.is_some() {
        condition.transition_time = known.transition_time;
    }
    let changed = *known != condition;
    *known = condition;
    changed
}

/// The generation that the condition of this type was last reported for; 0: never.
pub(crate) fn observed(conditions: &[Condition], kind: ConditionType) -> i64 {
    conditions
        .iter()
        .find(|condition| condition.r#type() == kind)
        .map(|condition| condition.observed_generation)
        .unwrap_or_default()
}

/// Whether an installation's credential is there, or none is needed.
pub(crate) fn has_credential(conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| {
        condition.r#type() == ConditionType::CredentialReady && condition.status() == ConditionStatus::True
    })
}

/// The state that follows from those of an installation's conditions that speak of its present generation, from its deletion and
/// its past.
pub(crate) fn state(installation: &Installation) -> InstallationState {
    if installation.delete_time.is_some() {
        return InstallationState::Deleting;
    }
    let current: Vec<&Condition> = installation
        .conditions
        .iter()
        .filter(|condition| condition.observed_generation >= installation.generation)
        .collect();
    let is_false = |condition: &&Condition| condition.status() == ConditionStatus::False;
    // What cannot work before a credential is entered for the first time has not failed.
    let credential_awaited = installation.first_ready_time.is_none()
        && current.iter().copied().filter(is_false).any(|condition| {
            condition.r#type() == ConditionType::CredentialReady && condition.reason == CREDENTIAL_REQUIRED
        });
    if !credential_awaited && current.iter().any(is_false) {
        return InstallationState::Failed;
    }
    if current.len() == installation.conditions.len()
        && current
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
    use super::*;

    fn condition(kind: ConditionType, status: ConditionStatus, reason: &str) -> Condition {
        Condition {
            r#type: kind.into(),
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
    fn runtime_applies_to_those_alone_that_have_one() {
        assert_eq!(applicable(false, &[], None).len(), 2);
        let conditions = applicable(true, &[], None);
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

    #[test]
    fn what_was_said_of_an_earlier_generation_counts_for_nothing() {
        let mut installation = of(vec![
            condition(ConditionType::CredentialReady, ConditionStatus::True, "STORED"),
            condition(ConditionType::ToolsDiscovered, ConditionStatus::True, "DISCOVERED"),
        ]);
        assert_eq!(state(&installation), InstallationState::Ready);
        installation.generation = 1;
        assert_eq!(state(&installation), InstallationState::Pending);
        installation.conditions[0].observed_generation = 1;
        installation.conditions[1].set_status(ConditionStatus::False);
        assert_eq!(
            state(&installation),
            InstallationState::Pending,
            "the failure is an old one"
        );
        installation.conditions[1].observed_generation = 1;
        assert_eq!(state(&installation), InstallationState::Failed);
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_is_the_same() {
        let at = |seconds| Timestamp { seconds, nanos: 0 };
        let stored = || condition(ConditionType::CredentialReady, ConditionStatus::True, "STORED");
        let mut conditions = Vec::new();
        assert!(replace(&mut conditions, stored(), at(1)));
        assert!(!replace(&mut conditions, stored(), at(2)), "nothing changed");
        assert_eq!(conditions[0].transition_time, Some(at(1)));
        let mut failed = stored();
        failed.set_status(ConditionStatus::False);
        assert!(replace(&mut conditions, failed, at(3)));
        assert_eq!(conditions[0].transition_time, Some(at(3)));
    }
}
