//! Reports of runtimes.

use contracts::registry::{
    Condition, ConditionStatus, ConditionType, Installation, ReportRuntimeRequest, Runtime, RuntimeState,
    report_runtime_request::Subject, runtime::Owner,
};
use service_kit::Workload;

use super::{check, settle};
use crate::{
    domain::{Actor, Error, conditions, time::timestamp},
    operate::{Registry, propagation::Propagated, runtime_lease},
    store::{Object, Tx, entries, installations, runtimes},
};

/// Accepts a report on a runtime.
pub(crate) async fn runtime(registry: &Registry, report: ReportRuntimeRequest) -> Result<Propagated, Error> {
    check::runtime(&report)?;
    let now = registry.clock.now_micros();
    let mut tx = registry.db.read().await?;
    runtime_lease::check(&mut tx, report.lease.as_ref(), now).await?;
    if runtime_changes(&mut tx, &report, now).await?.is_some() {
        drop(tx);
        tx = registry.write(Actor::Workload(Workload::Orchestrator)).await?;
        runtime_lease::check(&mut tx, report.lease.as_ref(), now).await?;
        if let Some((mut runtime, installation)) = runtime_changes(&mut tx, &report, now).await? {
            runtimes::put(&mut tx, &mut runtime).await?;
            if let Some(mut installation) = installation {
                installations::update_one(&mut tx, &mut installation).await?;
            }
        }
    }
    registry.commit(tx, Some(&[])).await
}

/// What a runtime, and the installation it runs for, become by a report; `None`: it changes nothing, or is stale.
async fn runtime_changes(
    tx: &mut Tx,
    report: &ReportRuntimeRequest,
    now: i64,
) -> Result<Option<(Runtime, Option<Installation>)>, Error> {
    let (uid, owner, generation, mut installation) = match &report.subject {
        Some(Subject::InstallationUid(uid)) => {
            let Some(known) = installations::by_uid(tx, uid).await? else {
                return Ok(None);
            };
            let owner = Owner::Installation(known.name.clone());
            (uid, owner, known.generation, Some(known))
        }
        Some(Subject::EntryUid(uid)) => {
            let Some(known) = entries::by_uid(tx, uid).await? else {
                return Ok(None);
            };
            (uid, Owner::Entry(known.name), known.entry_revision, None)
        }
        None => return Ok(None),
    };
    let known = runtimes::of(tx, uid).await?;
    let observed_generation = report.observed_generation.min(generation);
    if let Some(known) = &known {
        tx.stands_at(Object::Runtime, known.registry_revision);
        if observed_generation < known.observed_generation {
            return Ok(None);
        }
    }
    let transition_time = match &known {
        Some(known) if known.state == report.state => known.transition_time,
        _ => Some(timestamp(now)),
    };
    let next = Runtime {
        owner_uid: uid.clone(),
        owner: Some(owner),
        state: report.state,
        reason: report.reason.clone(),
        message: report.message.clone(),
        endpoint: report.endpoint.clone(),
        spec_digest: report.spec_digest.clone(),
        replicas: report.replicas,
        ready_replicas: report.ready_replicas,
        observed_generation,
        transition_time,
        registry_revision: known.as_ref().map(|known| known.registry_revision).unwrap_or_default(),
        tool_list_changes: report.tool_list_changes,
    };
    let mut condition_changed = false;
    if let Some(installation) = &mut installation {
        let status = match report.state() {
            RuntimeState::Running => ConditionStatus::True,
            RuntimeState::Failed => ConditionStatus::False,
            RuntimeState::Pending | RuntimeState::Unspecified => ConditionStatus::Unknown,
        };
        let condition = Condition {
            r#type: ConditionType::RuntimeReady.into(),
            status: status.into(),
            reason: report.reason.clone(),
            message: report.message.clone(),
            observed_generation,
            transition_time: None,
        };
        // A remote server has no runtime.
        let applies = installation
            .conditions
            .iter()
            .any(|condition| condition.r#type() == ConditionType::RuntimeReady);
        condition_changed = applies && conditions::replace(&mut installation.conditions, condition, timestamp(now));
        settle(installation, now);
    }
    if known.as_ref() == Some(&next) && !condition_changed {
        return Ok(None);
    }
    Ok(Some((next, installation.filter(|_| condition_changed))))
}
