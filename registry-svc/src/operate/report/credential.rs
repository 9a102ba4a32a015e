//! Reports of credentials.

use contracts::registry::{
    Condition, ConditionType, Entry, Installation, ReportCredentialRequest, report_credential_request::Subject,
};
use service_kit::Workload;

use super::{check, settle};
use crate::{
    domain::{Actor, Error, conditions, time::timestamp},
    operate::{Registry, propagation::Propagated},
    store::{Object, entries, installations},
};

/// Accepts a report on the secrets of an installation or an entry. A new credential is in force at every gateway before the call that
/// stored it returns.
pub(crate) async fn credential(registry: &Registry, report: ReportCredentialRequest) -> Result<Propagated, Error> {
    check::credential(&report)?;
    let now = registry.clock.now_micros();
    let mut tx = registry.db.read().await?;
    match &report.subject {
        Some(Subject::InstallationUid(uid)) => {
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
        Some(Subject::EntryUid(uid)) => {
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
    // A late report about something that no longer exists is no error.
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
        // A new credential makes a new generation, and this report was made for it.
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
