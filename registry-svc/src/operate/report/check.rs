//! What a report must be.

use std::collections::BTreeSet;

use contracts::registry::{
    ConditionStatus, ReportCredentialRequest, ReportDiscoveryRequest, ReportRuntimeRequest, RuntimeState, Tool,
    report_discovery_request::Outcome,
};
use prost::Message as _;
use service_kit::status::Violations;

use crate::{domain::Error, store::features};

const MAX_REASON: usize = 64;
const MAX_MESSAGE: usize = 4_000;
const MAX_ENDPOINT: usize = 1_024;
const MAX_DIGEST: usize = 128;
const MAX_TOOLS: usize = 4_096;
const MAX_TOOL_NAME: usize = 256;
/// A definition and a set must each fit into one message of the watch.
const MAX_DEFINITION: usize = 512 << 10;
const MAX_SET: usize = 1_000_000;

pub(super) fn credential(report: &ReportCredentialRequest) -> Result<(), Error> {
    let mut violations = Violations::new();
    if report.subject.is_none() {
        violations.add("subject", "must be set: installation_uid or entry_uid");
    }
    if report.status() == ConditionStatus::Unspecified {
        violations.add("status", "must be TRUE, FALSE or UNKNOWN");
    }
    check_words(&mut violations, &report.reason, &report.message, "");
    Ok(violations.into_result(())?)
}

pub(super) fn runtime(report: &ReportRuntimeRequest) -> Result<(), Error> {
    let mut violations = Violations::new();
    if report.subject.is_none() {
        violations.add("subject", "must be set: installation_uid or entry_uid");
    }
    if report.state() == RuntimeState::Unspecified {
        violations.add("state", "must be PENDING, RUNNING or FAILED");
    }
    check_words(&mut violations, &report.reason, &report.message, "");
    for (field, text, max) in [
        ("endpoint", &report.endpoint, MAX_ENDPOINT),
        ("spec_digest", &report.spec_digest, MAX_DIGEST),
    ] {
        if text.len() > max || text.contains('\0') {
            violations.add(field, format!("must have at most {max} bytes, none of them NUL"));
        }
    }
    for (field, count) in [
        ("replicas", report.replicas.into()),
        ("ready_replicas", report.ready_replicas.into()),
        ("tool_list_changes", report.tool_list_changes),
    ] {
        if count < 0 {
            violations.add(field, "must not be negative");
        }
    }
    Ok(violations.into_result(())?)
}

pub(super) fn discovery(report: &ReportDiscoveryRequest) -> Result<(), Error> {
    let mut violations = Violations::new();
    if report.subject.is_none() {
        violations.add("subject", "must be set: installation_uid");
    }
    match &report.outcome {
        None => violations.add("outcome", "must be set: tools or failure"),
        Some(Outcome::Failure(failure)) => {
            check_words(&mut violations, &failure.reason, &failure.message, "failure.");
        }
        Some(Outcome::Tools(found)) => {
            check_tools(&mut violations, &found.tools);
            check_text(&mut violations, &found.left_out, "tools.left_out");
        }
    }
    Ok(violations.into_result(())?)
}

fn check_words(violations: &mut Violations, reason: &str, message: &str, path: &str) {
    let upper_snake = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if reason.is_empty() || reason.len() > MAX_REASON || !reason.bytes().all(upper_snake) {
        violations.add(
            format!("{path}reason"),
            format!("must be UPPER_SNAKE_CASE of at most {MAX_REASON}"),
        );
    }
    check_text(violations, message, &format!("{path}message"));
}

fn check_text(violations: &mut Violations, text: &str, field: &str) {
    if text.chars().count() > MAX_MESSAGE || text.contains('\0') {
        violations.add(
            field,
            format!("must have at most {MAX_MESSAGE} characters, none of them NUL"),
        );
    }
}

fn check_tools(violations: &mut Violations, tools: &[Tool]) {
    if tools.len() > MAX_TOOLS {
        violations.add("tools.tools", format!("must have at most {MAX_TOOLS} elements"));
        return;
    }
    let mut names = BTreeSet::new();
    for (index, tool) in tools.iter().enumerate() {
        let path = format!("tools.tools[{index}]");
        let length = tool.tool.chars().count();
        if !(1..=MAX_TOOL_NAME).contains(&length) || tool.tool.chars().any(char::is_control) {
            violations.add(
                format!("{path}.tool"),
                format!("must have 1 to {MAX_TOOL_NAME} characters, none a control character"),
            );
        }
        if !names.insert(&tool.tool) {
            violations.add(format!("{path}.tool"), "is a duplicate");
        }
        let definition = &tool.definition_json;
        if definition.len() > MAX_DEFINITION {
            violations.add(
                format!("{path}.definition_json"),
                format!("must have at most {MAX_DEFINITION} bytes"),
            );
        } else if definition.contains('\0') || serde_json::from_str::<&serde_json::value::RawValue>(definition).is_err()
        {
            violations.add(format!("{path}.definition_json"), "must be JSON");
        }
    }
    if violations.is_empty() && features::set_of(tools).encoded_len() > MAX_SET {
        violations.add(
            "tools.tools",
            "must have at most 1,000,000 bytes of names and hashes in all",
        );
    }
}
