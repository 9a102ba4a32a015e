//! What workloads observe: credentials, runtimes, tools, cleanups, uses of tokens.
//!
//! A report is compared in a reading transaction first: one that changes nothing takes no lock, however often it is sent.

mod check;
mod credential;
mod discovery;
mod runtime;

use contracts::registry::{
    Installation, InstallationState, ReportCleanupRequest, ReportTokenUseRequest, report_cleanup_request::Subject,
};
use service_kit::{Workload, status::Violations};

use super::{Registry, runtime_lease};
use crate::{
    domain::{Actor, Error, conditions, time::timestamp},
    store::{cleanup, gateway_tokens},
};

pub(crate) use credential::credential;
pub(crate) use discovery::discovery;
pub(crate) use runtime::runtime;

const MAX_USES: usize = 1_000;
const MINUTE: i64 = 60_000_000;

/// Accepts that a workload has nothing left of something deleted.
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
    if workload == Workload::Orchestrator {
        runtime_lease::check(&mut tx, request.lease.as_ref(), registry.clock.now_micros()).await?;
    }
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
        violations.add("uses", format!("must have at most {MAX_USES} elements"));
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
