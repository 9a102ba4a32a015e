//! From domain types to messages.

use contracts::gateway::{self as pb, ErrorReason};
use service_kit::status::{Reason, internal};
use tonic::Status;

use super::status::of_repair_reason;
use crate::{
    calls::Pause,
    domain::{ConsumerRef, ExposedTool, Links},
    json::Object,
    resolve::{Explanation, Outcome, Rule, Step},
};

/// Tools as a caller sees them.
pub(super) fn exposed_tools(tools: &[ExposedTool], consumer: &ConsumerRef, links: &Links) -> Vec<pb::ExposedTool> {
    let exposed = |tool: &ExposedTool| pb::ExposedTool {
        exposed_name: tool.exposed_name.to_string(),
        entry: format!("entries/{}", tool.entry),
        tool: tool.tool.to_string(),
        definition_json: tool.definition.to_json(&tool.exposed_name),
        connected: tool.connected,
        install_url: if tool.connected {
            String::new()
        } else {
            links.install(&tool.entry, Some(consumer))
        },
    };
    tools.iter().map(exposed).collect()
}

/// What a tool answered, a JSON object.
pub(super) fn result(result: &[u8]) -> Result<pb::CallToolResponse, Status> {
    // Checked when it came.
    let result_json = String::from_utf8(result.to_vec()).map_err(|_| internal())?;
    let is_error = Object::parse(&result_json).is_ok_and(|result| result.get("isError") == Some("true"));
    Ok(pb::CallToolResponse { result_json, is_error })
}

/// Where a call would go, and whether it would fail there at once.
pub(super) fn explanation(explanation: Explanation, pause: Option<Pause>) -> pb::ExplainResolutionResponse {
    let reason = explanation.reason.map(of_repair_reason);
    let reason = reason.or(pause.as_ref().map(|_| ErrorReason::UpstreamUnreachable));
    pb::ExplainResolutionResponse {
        installation: explanation
            .chosen
            .map(|installation| installation.resource_name())
            .unwrap_or_default(),
        reason: reason
            .map(|reason| Reason::of(reason, ErrorReason::as_str_name).as_str().to_owned())
            .unwrap_or_default(),
        steps: explanation.steps.into_iter().map(step).collect(),
        install_url: explanation.install_url.unwrap_or_default(),
        entry: format!("entries/{}", explanation.entry.slug),
        tool: explanation.tool.to_string(),
        credential: explanation.credential.map(|credential| pb::ExplainedCredential {
            model: credential.kind.name().to_owned(),
            per_caller: credential.per_caller,
            ready: credential.ready,
            detail: credential.detail,
        }),
        pause: pause.map(|pause| pb::ServerPause {
            since_time: Some(pause.since.into()),
            retry_time: Some(pause.until.into()),
            failures: pause.failures.into(),
            detail: pause.how,
        }),
    }
}

fn step(step: Step) -> pb::ResolutionStep {
    let rule = match step.rule {
        Rule::Pinned => pb::ResolutionRule::Pinned,
        Rule::Personal => pb::ResolutionRule::Personal,
        Rule::SharedTeam => pb::ResolutionRule::SharedTeam,
        Rule::Team => pb::ResolutionRule::Team,
    };
    let outcome = match step.outcome {
        Outcome::Chosen => pb::ResolutionOutcome::Chosen,
        Outcome::SkippedNeverReady => pb::ResolutionOutcome::SkippedNeverReady,
        Outcome::NotReached => pb::ResolutionOutcome::NotReached,
        Outcome::None => pb::ResolutionOutcome::None,
    };
    pb::ResolutionStep {
        rule: rule.into(),
        installation: step
            .installation
            .as_ref()
            .map(|installation| installation.resource_name())
            .unwrap_or_default(),
        owner: step
            .installation
            .as_ref()
            .map(|installation| installation.owner.resource_name())
            .unwrap_or_default(),
        outcome: outcome.into(),
        detail: step.detail,
    }
}
