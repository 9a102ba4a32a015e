//! Reports of the tools that were discovered.

use contracts::registry::{
    Condition, ConditionStatus, ConditionType, DiscoveredSet, Entry, FeatureKind, FeatureSet, Installation,
    ReportDiscoveryRequest, Tool,
    report_discovery_request::{Outcome, Subject},
};
use service_kit::Workload;

use super::{check, settle};
use crate::{
    domain::{Actor, Error, conditions, since_revisions, time::timestamp},
    operate::{Registry, propagation::Propagated},
    store::{
        Object, Tx,
        entries::{self, tool_set},
        features, installations, users,
    },
};

/// Accepts what a discovery found: the tools of an installation, which become those of its entry where the installation represents it.
pub(crate) async fn discovery(registry: &Registry, report: ReportDiscoveryRequest) -> Result<Propagated, Error> {
    check::discovery(&report)?;
    let Some(Subject::InstallationUid(uid)) = &report.subject else {
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
    /// Its previous set, if it gets another.
    left: Option<String>,
    /// The entry and its previous set, if it gets another.
    entry: Option<(Entry, DiscoveredSet)>,
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
        Some(Outcome::Tools(found)) => (ConditionStatus::True, "DISCOVERED".to_owned(), found.left_out.clone()),
        None => return Ok(None),
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
        left = replace_set(&mut installation.discovered, set).map(|before| before.set_hash);
        entry = entry_with(tx, &installation, set).await?;
        changed |= left.is_some() || entry.is_some();
    }
    Ok(changed.then_some(Discovered {
        installation,
        left,
        entry,
    }))
}

/// Names this set as the tools; the one before, if that was another, or an empty one where there was none.
fn replace_set(discovered: &mut Vec<DiscoveredSet>, set: &FeatureSet) -> Option<DiscoveredSet> {
    if tool_set(discovered) == set.hash {
        return None;
    }
    let before = discovered
        .extract_if(.., |known| known.kind() == FeatureKind::Tool)
        .last();
    discovered.push(DiscoveredSet {
        kind: FeatureKind::Tool.into(),
        set_hash: set.hash.clone(),
        since_revisions: Vec::new(),
    });
    Some(before.unwrap_or_default())
}

/// The entry with these tools, and its previous set, where this installation decides: the first one that is discovered does, then those
/// of teams and admins, if they run the current revision. A server may show a person's own account other tools.
async fn entry_with(
    tx: &mut Tx,
    installation: &Installation,
    set: &FeatureSet,
) -> Result<Option<(Entry, DiscoveredSet)>, Error> {
    let Some(mut entry) = entries::by_uid(tx, &installation.entry_uid).await? else {
        return Ok(None);
    };
    if entry.delete_time.is_some() {
        return Ok(None);
    }
    let Some(before) = replace_set(&mut entry.discovered, set) else {
        return Ok(None);
    };
    let speaks = if before.set_hash.is_empty() {
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
    if let Some((set, tools)) = &found {
        features::keep(tx, set, tools).await?;
    }
    installations::update_one(tx, &mut changes.installation).await?;
    let mut left: Vec<String> = changes.left.into_iter().collect();
    if let (Some((mut entry, before)), Some((set, _))) = (changes.entry, &found) {
        let had = features::of(tx, &before.set_hash).await?;
        let since = since_revisions::follow(&had, &before.since_revisions, &set.features, tx.revision());
        if let Some(tools) = entry.discovered.iter_mut().find(|one| one.set_hash == set.hash) {
            tools.since_revisions = since;
        }
        entries::put(tx, &mut entry).await?;
        left.push(before.set_hash);
    }
    left.dedup();
    for set in left {
        features::release(tx, &set).await?;
    }
    Ok(())
}
