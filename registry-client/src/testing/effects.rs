//! The effects of reports on objects. A report about an object that no longer exists has none.

use contracts::registry::{
    Condition, ConditionStatus, ConditionType, Entry, Installation, ReportCredentialRequest, ReportRuntimeRequest,
    Runtime, RuntimeState, report_cleanup_request, report_credential_request, report_runtime_request, runtime::Owner,
};
use tonic::Status;

use super::objects::Objects;

/// Sets CREDENTIAL_READY and the credential's generation. A new credential also increments the installation's
/// generation.
///
/// # Panics
///
/// If the credential's generation is lower than the known one, which is a fault of the workload under test.
pub(super) fn credential(objects: &mut Objects, report: &ReportCredentialRequest) {
    use report_credential_request::Subject;
    match &report.subject {
        Some(Subject::InstallationUid(uid)) => objects.edit(uid, |installation: &mut Installation| {
            let mut observed = report.observed_generation.min(installation.generation);
            if report.credential_generation > installation.credential_generation {
                // The report already names the generation that it causes.
                observed += i64::from(observed == installation.generation);
                installation.generation += 1;
            }
            observe(
                &mut installation.conditions,
                &mut installation.credential_generation,
                report,
                observed,
            );
        }),
        Some(Subject::EntryUid(uid)) => objects.edit(uid, |entry: &mut Entry| {
            let observed = report.observed_generation.min(entry.entry_revision);
            observe(
                &mut entry.conditions,
                &mut entry.credential_generation,
                report,
                observed,
            );
        }),
        None => None,
    };
}

fn observe(conditions: &mut Vec<Condition>, generation: &mut i64, report: &ReportCredentialRequest, observed: i64) {
    assert!(report.credential_generation >= *generation, "generations only grow");
    let is_new = report.credential_generation > *generation;
    *generation = report.credential_generation;
    let condition = Condition {
        r#type: ConditionType::CredentialReady.into(),
        status: report.status,
        reason: report.reason.clone(),
        message: report.message.clone(),
        observed_generation: observed,
        transition_time: None,
    };
    match find(conditions, ConditionType::CredentialReady) {
        Some(known) if !is_new && observed < known.observed_generation => {}
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}

/// Sets the runtime, and RUNTIME_READY: of an installation, if it has that condition, which means that its server is self-hosted and its own;
/// of an entry in any case.
pub(super) fn runtime(objects: &mut Objects, report: &ReportRuntimeRequest) {
    use report_runtime_request::Subject;
    let (uid, owner) = match &report.subject {
        Some(Subject::InstallationUid(uid)) => (
            uid,
            objects
                .get(uid)
                .map(|known: &Installation| Owner::Installation(known.name.clone())),
        ),
        Some(Subject::EntryUid(uid)) => (
            uid,
            objects.get(uid).map(|known: &Entry| Owner::Entry(known.name.clone())),
        ),
        None => return,
    };
    let Some(owner) = owner else { return };
    let is_entry = matches!(owner, Owner::Entry(_));
    objects.put(Runtime {
        owner_uid: uid.to_owned(),
        owner: Some(owner),
        state: report.state,
        reason: report.reason.clone(),
        message: report.message.clone(),
        endpoint: report.endpoint.clone(),
        spec_digest: report.spec_digest.clone(),
        replicas: report.replicas,
        ready_replicas: report.ready_replicas,
        observed_generation: report.observed_generation,
        tool_list_changes: report.tool_list_changes,
        ..Runtime::default()
    });
    if is_entry {
        objects.edit(uid, |entry: &mut Entry| {
            if find(&mut entry.conditions, ConditionType::RuntimeReady).is_none() {
                entry.conditions.push(Condition {
                    r#type: ConditionType::RuntimeReady.into(),
                    ..Condition::default()
                });
            }
            note_runtime(&mut entry.conditions, report);
        });
    } else {
        objects.edit(uid, |installation: &mut Installation| {
            note_runtime(&mut installation.conditions, report);
        });
    }
}

fn note_runtime(conditions: &mut [Condition], report: &ReportRuntimeRequest) {
    if let Some(known) = find(conditions, ConditionType::RuntimeReady) {
        known.set_status(match report.state() {
            RuntimeState::Running => ConditionStatus::True,
            RuntimeState::Failed => ConditionStatus::False,
            RuntimeState::Pending | RuntimeState::Unspecified => ConditionStatus::Unknown,
        });
        known.reason.clone_from(&report.reason);
        known.message.clone_from(&report.message);
        known.observed_generation = report.observed_generation;
    }
}

fn find(conditions: &mut [Condition], kind: ConditionType) -> Option<&mut Condition> {
    conditions.iter_mut().find(|condition| condition.r#type() == kind)
}

/// Removes a deleted object. registry-svc waits until both workloads have reported; the fake does not, because a test
/// has only one of them.
pub(super) fn cleanup(objects: &mut Objects, subject: &report_cleanup_request::Subject) -> Result<(), Status> {
    use report_cleanup_request::Subject;
    let delete_time = match subject {
        Subject::InstallationUid(uid) => objects.get::<Installation>(uid).map(|known| known.delete_time),
        Subject::EntryUid(uid) => objects.get::<Entry>(uid).map(|known| known.delete_time),
    };
    if delete_time == Some(None) {
        return Err(Status::failed_precondition(
            "it is not deleted: there is nothing to clean up",
        ));
    }
    match subject {
        Subject::InstallationUid(uid) => {
            objects.remove_runtime(uid);
            objects.remove::<Installation>(uid);
        }
        Subject::EntryUid(uid) => {
            objects.remove::<Entry>(uid);
        }
    }
    Ok(())
}
