//! Reports of runtimes.

use contracts::registry::{
    Condition, ConditionStatus, ConditionType, Entry, Installation, ReportRuntimeRequest, Runtime, RuntimeState,
    report_runtime_request::Subject, runtime,
};
use service_kit::Workload;

use super::{check, settle};
use crate::{
    domain::{Actor, Error, conditions, entry::EntrySpec, time::timestamp},
    operate::{Registry, propagation::Propagated, runtime_lease},
    store::{Object, Tx, entries, installations, runtimes},
};

/// What a runtime runs for. It has the condition RUNTIME_READY if the runtime is its own.
enum Owner {
    Installation(Box<Installation>),
    Entry(Box<Entry>),
}

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
        if let Some((mut runtime, owner)) = runtime_changes(&mut tx, &report, now).await? {
            runtimes::put(&mut tx, &mut runtime).await?;
            match owner {
                Some(Owner::Installation(mut known)) => installations::update_one(&mut tx, &mut known).await?,
                Some(Owner::Entry(mut known)) => entries::put(&mut tx, &mut known).await?,
                None => {}
            }
        }
    }
    registry.commit(tx, Some(&[])).await
}

/// What a runtime becomes by a report, and its owner, if that changes too. `None`: it changes nothing, or is stale.
async fn runtime_changes(
    tx: &mut Tx,
    report: &ReportRuntimeRequest,
    now: i64,
) -> Result<Option<(Runtime, Option<Owner>)>, Error> {
    let Some(mut owner) = owner(tx, report).await? else {
        return Ok(None);
    };
    let known = runtimes::of(tx, owner.uid()).await?;
    let observed_generation = report.observed_generation.min(owner.generation());
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
        owner_uid: owner.uid().to_owned(),
        owner: Some(owner.reference()),
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
    let owner_changed = owner.note(condition(report, observed_generation), now);
    if known.as_ref() == Some(&next) && !owner_changed {
        return Ok(None);
    }
    Ok(Some((next, Some(owner).filter(|_| owner_changed))))
}

/// The owner of the runtime; `None` if it does not exist any more.
async fn owner(tx: &mut Tx, report: &ReportRuntimeRequest) -> Result<Option<Owner>, Error> {
    Ok(match &report.subject {
        Some(Subject::InstallationUid(uid)) => installations::by_uid(tx, uid)
            .await?
            .map(|known| Owner::Installation(Box::new(known))),
        Some(Subject::EntryUid(uid)) => entries::by_uid(tx, uid)
            .await?
            .map(|known| Owner::Entry(Box::new(known))),
        None => None,
    })
}

fn condition(report: &ReportRuntimeRequest, observed_generation: i64) -> Condition {
    let status = match report.state() {
        RuntimeState::Running => ConditionStatus::True,
        RuntimeState::Failed => ConditionStatus::False,
        RuntimeState::Pending | RuntimeState::Unspecified => ConditionStatus::Unknown,
    };
    Condition {
        r#type: ConditionType::RuntimeReady.into(),
        status: status.into(),
        reason: report.reason.clone(),
        message: report.message.clone(),
        observed_generation,
        transition_time: None,
    }
}

impl Owner {
    fn uid(&self) -> &str {
        match self {
            Self::Installation(known) => &known.uid,
            Self::Entry(known) => &known.uid,
        }
    }

    fn reference(&self) -> runtime::Owner {
        match self {
            Self::Installation(known) => runtime::Owner::Installation(known.name.clone()),
            Self::Entry(known) => runtime::Owner::Entry(known.name.clone()),
        }
    }

    fn generation(&self) -> i64 {
        match self {
            Self::Installation(known) => known.generation,
            Self::Entry(known) => known.entry_revision,
        }
    }

    /// Says whether the condition applies, and changed anything.
    fn note(&mut self, condition: Condition, now: i64) -> bool {
        match self {
            Self::Installation(known) => {
                // It has none where its server is remote, or shared.
                let applies = known
                    .conditions
                    .iter()
                    .any(|condition| condition.r#type() == ConditionType::RuntimeReady);
                let changed = applies && conditions::replace(&mut known.conditions, condition, timestamp(now));
                settle(known, now);
                changed
            }
            Self::Entry(known) => {
                EntrySpec::from_stored(Entry::clone(known)).has_shared_runtime()
                    && conditions::replace(&mut known.conditions, condition, timestamp(now))
            }
        }
    }
}
