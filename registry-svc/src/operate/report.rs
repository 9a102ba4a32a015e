//! What workloads observe: conditions, tools, cleanups, uses of tokens.

use std::collections::BTreeSet;

use contracts::registry::{
    Condition, ConditionStatus, ConditionType, ReportCleanupRequest, ReportConditionRequest, ReportTokenUseRequest,
    ReportToolsRequest, report_cleanup_request::Subject,
};
use service_kit::{Workload, status::Violations};

use crate::{
    api::{Registry, propagation::Propagated},
    domain::Error,
    store::{Tx, cleanup, load, on, reported, tools, users},
};

const MAX_REASON: usize = 64;
const MAX_MESSAGE: usize = 4_000;
const MAX_ENDPOINT: usize = 1_024;
const MAX_TOOLS: usize = 4_096;
const MAX_TOOL_NAME: usize = 256;
const MAX_USES: usize = 1_000;
const MINUTE: i64 = 60_000_000;

/// What a report that is taken answers.
pub(crate) async fn condition(
    registry: &Registry,
    workload: Workload,
    request: ReportConditionRequest,
) -> Result<Propagated, Error> {
    let aspect = match workload {
        Workload::Credential => ConditionType::CredentialReady,
        Workload::Orchestrator => ConditionType::RuntimeReady,
        Workload::Gateway => ConditionType::ToolsDiscovered,
        Workload::Registry => return Err(Error::Internal("the registry reports nothing to itself".to_owned())),
    };
    check_condition(&request)?;
    let uid = &request.installation_uid;
    let now = registry.clock.now_micros();
    let mut tx = registry.db.write().await?;
    // An installation that is gone needs no report; what was on its way is no error.
    if let Some(known) = reported::of(&mut tx, uid).await? {
        let condition = Condition {
            r#type: aspect.into(),
            status: request.status,
            reason: request.reason,
            message: request.message,
            observed_generation: request.observed_generation,
            transition_time: None,
        };
        let mut changed = put_condition(&mut tx, uid, &known, condition, now).await?;
        if workload == Workload::Credential && request.credential_generation > known.credential_generation {
            reported::put_credential_generation(&mut tx, uid, request.credential_generation).await?;
            changed = true;
        }
        if workload == Workload::Orchestrator && request.runtime_endpoint != known.runtime_endpoint {
            reported::put_endpoint(&mut tx, uid, &request.runtime_endpoint).await?;
            changed = true;
        }
        if changed {
            reported::finish(&mut tx, uid, now).await?;
        }
    }
    // A new credential is in every gateway before the call that stored it returns.
    let awaited: &[Workload] = if workload == Workload::Credential {
        &[Workload::Gateway]
    } else {
        &[]
    };
    registry.commit(tx, Some(awaited)).await
}

fn check_condition(request: &ReportConditionRequest) -> Result<(), Error> {
    let mut violations = Violations::new();
    if request.status() == ConditionStatus::Unspecified {
        violations.add("status", "must be TRUE, FALSE or UNKNOWN");
    }
    let upper_snake = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if request.reason.is_empty() || request.reason.len() > MAX_REASON || !request.reason.bytes().all(upper_snake) {
        violations.add("reason", format!("must be UPPER_SNAKE_CASE of at most {MAX_REASON}"));
    }
    if request.message.chars().count() > MAX_MESSAGE || request.message.contains('\0') {
        violations.add(
            "message",
            format!("must have at most {MAX_MESSAGE} characters, none of them NUL"),
        );
    }
    if request.runtime_endpoint.len() > MAX_ENDPOINT || request.runtime_endpoint.contains('\0') {
        violations.add(
            "runtime_endpoint",
            format!("must have at most {MAX_ENDPOINT} bytes, none of them NUL"),
        );
    }
    Ok(violations.into_result(())?)
}

/// Writes a condition unless it is older than what is known, or the same; says whether that changed anything.
async fn put_condition(
    tx: &mut Tx,
    uid: &str,
    installation: &reported::Reported,
    mut condition: Condition,
    now: i64,
) -> Result<bool, Error> {
    condition.observed_generation = condition.observed_generation.min(installation.generation);
    if let Some((observed, status, reason, message)) = reported::condition(tx, uid, condition.r#type()).await? {
        let stale = condition.observed_generation < observed;
        let same = observed == condition.observed_generation
            && status == i64::from(condition.status)
            && reason == condition.reason
            && message == condition.message;
        if stale || same {
            return Ok(false);
        }
    }
    reported::put_condition(tx, uid, &condition, now).await?;
    Ok(true)
}

/// Takes the tools of an installation, and with them those of its entry where they speak for it.
pub(crate) async fn tools(registry: &Registry, request: ReportToolsRequest) -> Result<Propagated, Error> {
    check_tools(&request)?;
    let uid = &request.installation_uid;
    let now = registry.clock.now_micros();
    let mut tx = registry.db.write().await?;
    if let Some(known) = reported::of(&mut tx, uid).await? {
        let before = reported::condition(&mut tx, uid, ConditionType::ToolsDiscovered).await?;
        let stale = before.is_some_and(|(observed, ..)| request.observed_generation < observed);
        if !stale {
            let condition = Condition {
                r#type: ConditionType::ToolsDiscovered.into(),
                status: ConditionStatus::True.into(),
                reason: "DISCOVERED".to_owned(),
                message: String::new(),
                observed_generation: request.observed_generation,
                transition_time: None,
            };
            if put_condition(&mut tx, uid, &known, condition, now).await? {
                reported::finish(&mut tx, uid, now).await?;
            }
            tools::put_set(&mut tx, uid, &request.tools).await?;
            if speaks_for_entry(&mut tx, &known).await? {
                tools::put_set(&mut tx, &known.entry_uid, &request.tools).await?;
            }
        }
    }
    registry.commit(tx, Some(&[])).await
}

/// Whether what this installation has is what its entry has: the first one that is discovered, then those of teams and
/// admins, if they run the entry as it is now. A person's own account may be shown other tools than everybody's.
async fn speaks_for_entry(tx: &mut Tx, installation: &reported::Reported) -> Result<bool, Error> {
    let Some(entry) = load::entry(tx, &installation.entry_uid).await? else {
        return Ok(false);
    };
    if entry.delete_time.is_some() {
        return Ok(false);
    }
    if load::tool_set(tx, &entry.uid).await?.is_none() {
        return Ok(true);
    }
    if installation.running_entry_revision != entry.entry_revision {
        return Ok(false);
    }
    match &installation.user_uid {
        None => Ok(true),
        Some(user) => Ok(users::find(tx, user).await?.is_some_and(|user| user.admin)),
    }
}

fn check_tools(request: &ReportToolsRequest) -> Result<(), Error> {
    let mut violations = Violations::new();
    if request.tools.len() > MAX_TOOLS {
        violations.add("tools", format!("must be at most {MAX_TOOLS}"));
    }
    let mut names = BTreeSet::new();
    for (index, tool) in request.tools.iter().enumerate() {
        let length = tool.tool.chars().count();
        if !(1..=MAX_TOOL_NAME).contains(&length) || tool.tool.chars().any(char::is_control) {
            violations.add(
                format!("tools[{index}].tool"),
                format!("must have 1 to {MAX_TOOL_NAME} characters, none a control character"),
            );
        }
        if !names.insert(&tool.tool) {
            violations.add(format!("tools[{index}].tool"), "must not come twice");
        }
        if tool.definition_json.contains('\0')
            || serde_json::from_str::<&serde_json::value::RawValue>(&tool.definition_json).is_err()
        {
            violations.add(format!("tools[{index}].definition_json"), "must be JSON");
        }
    }
    Ok(violations.into_result(())?)
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
    let mut tx = registry.db.write().await?;
    if cleanup::report(&mut tx, what, &uid, workload).await? == cleanup::Outcome::StillThere {
        return Err(Error::IllegalTransition(format!(
            "{uid} is not deleted: there is nothing to clean up"
        )));
    }
    registry.commit(tx, Some(&[])).await.map(drop)
}

/// Notes when tokens were last used, to the minute.
pub(crate) async fn token_use(registry: &Registry, request: ReportTokenUseRequest) -> Result<(), Error> {
    const NOTE: &str =
        "UPDATE gateway_tokens SET last_use_time = $1 WHERE uid = $2 AND (last_use_time IS NULL OR last_use_time < $1)";
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
    // In one order, so that two reports at once do not wait for each other's rows.
    uses.sort_unstable();
    let mut tx = registry.db.write_quietly().await?;
    for (uid, time) in uses {
        on!(tx, c => sqlx::query(NOTE).bind(time).bind(uid).execute(&mut *c).await.map(drop))?;
    }
    tx.commit().await?;
    Ok(())
}
