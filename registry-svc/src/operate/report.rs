//! What workloads observe: credentials, runtimes, tools, cleanups, uses of tokens.
//!
//! A report is looked at in a reading transaction first: one that changes nothing takes no lock, however often it comes.

use contracts::registry::{
    Condition, ConditionStatus, ConditionType, DiscoveredSet, Entry, FeatureKind, FeatureSet, Installation,
    InstallationState, ReportCleanupRequest, ReportCredentialRequest, ReportDiscoveryRequest, ReportRuntimeRequest,
    ReportTokenUseRequest, Runtime, RuntimeState, Tool,
    report_cleanup_request::Subject,
    report_credential_request,
    report_discovery_request::{self, Outcome},
    report_runtime_request, runtime,
};
use service_kit::{Workload, status::Violations};

mod check;

use super::{Registry, propagation::Propagated};
use crate::{
    domain::{Actor, Error, conditions, time::timestamp},
    store::{
        Object, Tx, cleanup,
        entries::{self, tool_set},
        features, gateway_tokens, installations, runtimes, users,
    },
};

const MAX_USES: usize = 1_000;
const MINUTE: i64 = 60_000_000;

/// Takes how the secrets of an installation, or those of an entry, stand. A new credential is in force at every gateway before the call
/// that stored it returns.
pub(crate) async fn credential(registry: &Registry, report: ReportCredentialRequest) -> Result<Propagated, Error> {
    check::credential(&report)?;
    let now = registry.clock.now_micros();
    let mut tx = registry.db.read().await?;
    match &report.subject {
        Some(report_credential_request::Subject::InstallationUid(uid)) => {
            if let Some(mut known) = installations::by_uid(&mut tx, uid).await? {
                tx.stands_at(Object::Installation, known.registry_revision);
                if credential_of_installation(&mut known, &report, now) {
                    drop(tx);
                    tx = registry.write(Actor::Workload(Workload::Credential)).await?;
                    if let Some(mut known) = installations::by_uid(&mut tx, uid).await?
                        && credential_of_installation(&mut known, &report, now)
                    {
                        installations::update_one(&mut tx, &mut known).await?;
                    }
                }
            }
        }
        Some(report_credential_request::Subject::EntryUid(uid)) => {
            if let Some(mut known) = entries::by_uid(&mut tx, uid).await? {
                tx.stands_at(Object::Entry, known.registry_revision);
                if credential_of_entry(&mut known, &report, now) {
                    drop(tx);
                    tx = registry.write(Actor::Workload(Workload::Credential)).await?;
                    if let Some(mut known) = entries::by_uid(&mut tx, uid).await?
                        && credential_of_entry(&mut known, &report, now)
                    {
                        entries::put(&mut tx, &mut known).await?;
                    }
                }
            }
        }
        // `check` has refused it.
        None => {}
    }
    // What was on its way for something that is gone is no error.
    registry.commit(tx, Some(&[Workload::Gateway])).await
}

fn credential_condition(report: &ReportCredentialRequest, observed_generation: i64) -> Condition {
    Condition {
        r#type: ConditionType::CredentialReady.into(),
        status: report.status,
        reason: report.reason.clone(),
        message: report.message.clone(),
        observed_generation,
        transition_time: None,
    }
}

/// Says whether the report changed anything. One of an older generation that brings no newer credential is stale.
fn credential_of_installation(known: &mut Installation, report: &ReportCredentialRequest, now: i64) -> bool {
    let is_newer = report.credential_generation > known.credential_generation;
    // Of a credential that is there no more.
    if report.credential_generation < known.credential_generation {
        return false;
    }
    let mut observed = report.observed_generation.min(known.generation);
    if !is_newer && observed < conditions::observed(&known.conditions, ConditionType::CredentialReady) {
        return false;
    }
    if is_newer {
        // A change of what should be, made by whoever reports it: this report speaks of the generation it makes.
        let up_to_date = observed == known.generation;
        known.credential_generation = report.credential_generation;
        known.generation += 1;
        observed = if up_to_date { known.generation } else { observed };
    }
    let condition = credential_condition(report, observed);
    let changed = conditions::replace(&mut known.conditions, condition, timestamp(now));
    settle(known, now);
    changed || is_newer
}

fn credential_of_entry(known: &mut Entry, report: &ReportCredentialRequest, now: i64) -> bool {
    let is_newer = report.credential_generation > known.credential_generation;
    if report.credential_generation < known.credential_generation {
        return false;
    }
    let observed = report.observed_generation.min(known.entry_revision);
    if !is_newer && observed < conditions::observed(&known.conditions, ConditionType::CredentialReady) {
        return false;
    }
    known.credential_generation = known.credential_generation.max(report.credential_generation);
    let condition = credential_condition(report, observed);
    conditions::replace(&mut known.conditions, condition, timestamp(now)) || is_newer
}

/// Derives the state; the first time an installation is ready is kept. One whose credential is there, or that was ready, expires no more.
fn settle(installation: &mut Installation, now: i64) {
    let state = conditions::state(installation);
    installation.state = state.into();
    let is_ready = state == InstallationState::Ready;
    if is_ready && installation.first_ready_time.is_none() {
        installation.first_ready_time = Some(timestamp(now));
    }
    if is_ready || conditions::has_credential(&installation.conditions) {
        installation.expire_time = None;
    }
}

/// Takes how a runtime does.
pub(crate) async fn runtime(registry: &Registry, report: ReportRuntimeRequest) -> Result<Propagated, Error> {
    check::runtime(&report)?;
    let now = registry.clock.now_micros();
    let mut tx = registry.db.read().await?;
    if runtime_changes(&mut tx, &report, now).await?.is_some() {
        drop(tx);
        tx = registry.write(Actor::Workload(Workload::Orchestrator)).await?;
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
        Some(report_runtime_request::Subject::InstallationUid(uid)) => {
            let Some(known) = installations::by_uid(tx, uid).await? else {
                return Ok(None);
            };
            let owner = runtime::Owner::Installation(known.name.clone());
            (uid, owner, known.generation, Some(known))
        }
        Some(report_runtime_request::Subject::EntryUid(uid)) => {
            let Some(known) = entries::by_uid(tx, uid).await? else {
                return Ok(None);
            };
            (uid, runtime::Owner::Entry(known.name), known.entry_revision, None)
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

/// Takes what a discovery found: the tools of an installation, and with them those of its entry where they speak for it.
pub(crate) async fn discovery(registry: &Registry, report: ReportDiscoveryRequest) -> Result<Propagated, Error> {
    check::discovery(&report)?;
    let Some(report_discovery_request::Subject::InstallationUid(uid)) = &report.subject else {
        return Err(Error::invalid("subject", "must be set"));
    };
    let found = match &report.outcome {
        Some(Outcome::Tools(tools)) => Some((features::set_of(&tools.tools), tools.tools.as_slice())),
        _ => None,
    };
    let now = registry.clock.now_micros();
    let mut tx = registry.db.read().await?;
    if discovery_changes(&mut tx, uid, &report, found.as_ref().map(|(set, _)| set), now)
        .await?
        .is_some()
    {
        drop(tx);
        tx = registry.write(Actor::Workload(Workload::Gateway)).await?;
        let changes = discovery_changes(&mut tx, uid, &report, found.as_ref().map(|(set, _)| set), now).await?;
        if let Some(changes) = changes {
            write_discovery(&mut tx, changes, found).await?;
        }
    }
    registry.commit(tx, Some(&[])).await
}

/// What becomes of an installation and its entry by a discovery.
struct Discovered {
    installation: Installation,
    /// The set it had, if it gets another.
    left: Option<String>,
    /// The entry, if it gets another set; and the one it had.
    entry: Option<(Entry, String)>,
}

async fn discovery_changes(
    tx: &mut Tx,
    uid: &str,
    report: &ReportDiscoveryRequest,
    set: Option<&FeatureSet>,
    now: i64,
) -> Result<Option<Discovered>, Error> {
    let Some(mut installation) = installations::by_uid(tx, uid).await? else {
        return Ok(None);
    };
    tx.stands_at(Object::Installation, installation.registry_revision);
    // Of what it was before a change, a discovery says nothing: it may have asked another server.
    if report.observed_generation < installation.generation {
        return Ok(None);
    }
    let observed_generation = installation.generation;
    let (status, reason, message) = match &report.outcome {
        Some(Outcome::Failure(failure)) => (ConditionStatus::False, failure.reason.clone(), failure.message.clone()),
        _ => (ConditionStatus::True, "DISCOVERED".to_owned(), String::new()),
    };
    let condition = Condition {
        r#type: ConditionType::ToolsDiscovered.into(),
        status: status.into(),
        reason,
        message,
        observed_generation,
        transition_time: None,
    };
    let mut changed = conditions::replace(&mut installation.conditions, condition, timestamp(now));
    settle(&mut installation, now);
    let (mut left, mut entry) = (None, None);
    if let Some(set) = set {
        left = replace_set(&mut installation.discovered, set);
        entry = entry_with(tx, &installation, set).await?;
        changed |= left.is_some() || entry.is_some();
    }
    Ok(changed.then_some(Discovered {
        installation,
        left,
        entry,
    }))
}

/// Names this set as the tools; the hash of the one before, if that was another.
fn replace_set(discovered: &mut Vec<DiscoveredSet>, set: &FeatureSet) -> Option<String> {
    let before = tool_set(discovered).to_owned();
    if before == set.hash {
        return None;
    }
    discovered.retain(|known| known.kind() != FeatureKind::Tool);
    discovered.push(DiscoveredSet {
        kind: FeatureKind::Tool.into(),
        set_hash: set.hash.clone(),
    });
    Some(before)
}

/// The entry with these tools, and the set it had, where this installation speaks for it: the first one that is discovered does, then
/// those of teams and admins, if they run the entry as it is now. A person's own account may be shown other tools than everybody's.
async fn entry_with(
    tx: &mut Tx,
    installation: &Installation,
    set: &FeatureSet,
) -> Result<Option<(Entry, String)>, Error> {
    let Some(mut entry) = entries::by_uid(tx, &installation.entry_uid).await? else {
        return Ok(None);
    };
    if entry.delete_time.is_some() {
        return Ok(None);
    }
    let Some(before) = replace_set(&mut entry.discovered, set) else {
        return Ok(None);
    };
    let speaks = if before.is_empty() {
        true
    } else if installation.running_entry_revision != entry.entry_revision {
        false
    } else {
        match installations::personal_owner(installation) {
            None => true,
            Some(user) => users::find(tx, user).await?.is_some_and(|user| user.admin),
        }
    };
    Ok(speaks.then_some((entry, before)))
}

async fn write_discovery(
    tx: &mut Tx,
    mut changes: Discovered,
    found: Option<(FeatureSet, &[Tool])>,
) -> Result<(), Error> {
    if let Some((set, tools)) = found {
        features::keep(tx, &set, tools).await?;
    }
    installations::update_one(tx, &mut changes.installation).await?;
    let mut left: Vec<String> = changes.left.into_iter().collect();
    if let Some((mut entry, before)) = changes.entry {
        entries::put(tx, &mut entry).await?;
        left.push(before);
    }
    left.dedup();
    for set in left {
        features::release(tx, &set).await?;
    }
    Ok(())
}

/// Takes that nothing is left of something deleted.
pub(crate) async fn cleaned_up(
    registry: &Registry,
    workload: Workload,
    request: ReportCleanupRequest,
) -> Result<(), Error> {
    let (what, uid) = match request.subject {
        Some(Subject::InstallationUid(uid)) => (cleanup::Deleted::Installation, uid),
        Some(Subject::EntryUid(uid)) => (cleanup::Deleted::Entry, uid),
        None => return Err(Error::invalid("subject", "must be set")),
    };
    let mut tx = registry.db.read().await?;
    if cleanup::is_noted(&mut tx, what, &uid, workload).await? {
        return Ok(());
    }
    drop(tx);
    let mut tx = registry.write(Actor::Workload(workload)).await?;
    if cleanup::report(&mut tx, what, &uid, workload).await? == cleanup::Outcome::StillThere {
        return Err(Error::IllegalTransition(format!(
            "{uid} is not deleted: there is nothing to clean up"
        )));
    }
    tx.commit().await?;
    registry.rollouts.wake();
    Ok(())
}

/// Notes when tokens were last used, to the minute.
pub(crate) async fn token_use(registry: &Registry, request: ReportTokenUseRequest) -> Result<(), Error> {
    let mut violations = Violations::new();
    if request.uses.len() > MAX_USES {
        violations.add("uses", format!("must be at most {MAX_USES}"));
    }
    let mut uses = Vec::new();
    for (index, token_use) in request.uses.iter().enumerate() {
        match (
            token_use.gateway_token.strip_prefix("gatewayTokens/"),
            token_use.use_time,
        ) {
            (Some(uid), Some(time)) => {
                let micros = time
                    .seconds
                    .saturating_mul(1_000_000)
                    .clamp(0, registry.clock.now_micros());
                uses.push((uid, micros - micros % MINUTE));
            }
            _ => violations.add(format!("uses[{index}]"), "must name a gateway token and a time"),
        }
    }
    violations.into_result(())?;
    Ok(gateway_tokens::note_uses(&registry.db, uses).await?)
}
