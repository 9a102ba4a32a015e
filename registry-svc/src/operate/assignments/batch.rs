//! Many tool assignments in one call: all of them, or none (AIP-231, AIP-235).

use std::collections::BTreeSet;

use contracts::registry::{
    BatchCreateToolAssignmentsRequest, BatchCreateToolAssignmentsResponse, BatchDeleteToolAssignmentsRequest,
    CreateToolAssignmentRequest,
};
use service_kit::status::Violations;

use super::{
    may_assign,
    plan::{Asked, in_batch, plan},
    show, still_visible, uid_below,
};
use crate::{
    domain::{Caller, Error, assignment::AssignmentSpec, consumer::ConsumerKind},
    operate::Registry,
    operate::{Done, creation::Creation, unchanged},
    store::{Object, Tx, assignments},
};

/// The most assignments that one call creates or deletes.
const MAX: usize = 1_000;
const SIZE_RULE: &str = "must have 1 to 1,000 elements";

/// Assigns many tools to one gateway or agent.
pub(crate) async fn create(
    registry: &Registry,
    caller: &Caller,
    request: BatchCreateToolAssignmentsRequest,
) -> Result<Done<BatchCreateToolAssignmentsResponse>, Error> {
    if request.requests.len() > MAX {
        // Not even copied for the digest of a retry.
        return Err(Error::invalid("requests", SIZE_RULE));
    }
    let without_id = BatchCreateToolAssignmentsRequest {
        request_id: String::new(),
        ..request.clone()
    };
    let mut creation = Creation::new(
        caller,
        "BatchCreateToolAssignments",
        &request.request_id,
        &[],
        &without_id,
    );
    let parent = request.parent;
    creation.require_name(ConsumerKind::of(&parent).collection(), "parent", &parent);
    let asked = parse(creation.violations(), &parent, request.requests);
    let (asked, retry) = creation.finish(Some(asked))?;
    let allowed = async |tx: &mut Tx| may_assign(tx, caller, &parent).await;
    let mut tx = registry.write_allowed(caller, allowed).await?;
    let consumer = allowed(&mut tx).await?;
    let replay = retry.replayed::<BatchCreateToolAssignmentsResponse>(&mut tx).await?;
    if let Some(mut replay) = replay {
        let made = &mut replay.answer.tool_assignments;
        let revision = still_visible(&mut tx, caller, &consumer, made).await?;
        show(&mut tx, caller, made).await?;
        return unchanged(registry, tx, Object::ToolAssignment, revision, replay.answer).await;
    }
    let mut tool_assignments = plan(&mut tx, caller, &consumer, &asked, in_batch).await?;
    assignments::insert(&mut tx, &mut tool_assignments).await?;
    let answer = BatchCreateToolAssignmentsResponse { tool_assignments };
    retry.made(&mut tx, &consumer.uid, &answer).await?;
    Ok((answer, registry.commit(tx, None).await?))
}

fn parse(violations: &mut Violations, parent: &str, requests: Vec<CreateToolAssignmentRequest>) -> Vec<Asked> {
    if requests.is_empty() {
        violations.add("requests", SIZE_RULE);
        return Vec::new();
    }
    let mut asked = Vec::with_capacity(requests.len());
    for (index, request) in requests.into_iter().enumerate() {
        if !request.parent.is_empty() && request.parent != parent {
            violations.add(
                in_batch(index, "parent"),
                "must be empty, or the parent of the whole request",
            );
        }
        if !request.request_id.is_empty() {
            violations.add(
                in_batch(index, "request_id"),
                "must be empty: that of the whole request counts",
            );
        }
        match AssignmentSpec::parse(request.tool_assignment.unwrap_or_default()) {
            Ok(spec) => asked.push(Asked {
                spec,
                confirmed: request.confirm_shared_account,
            }),
            Err(more) => more
                .iter()
                .for_each(|(field, description)| violations.add(in_batch(index, field), description)),
        }
    }
    asked
}

/// Deletes many of one gateway or agent.
pub(crate) async fn delete(
    registry: &Registry,
    caller: &Caller,
    request: BatchDeleteToolAssignmentsRequest,
) -> Result<Done<()>, Error> {
    let BatchDeleteToolAssignmentsRequest { parent, names } = request;
    let mut violations = Violations::new();
    if names.is_empty() || names.len() > MAX {
        violations.add("names", SIZE_RULE);
    }
    let mut uids = BTreeSet::new();
    for (index, name) in names.iter().take(MAX).enumerate() {
        let field = || format!("names[{index}]");
        match uid_below(&parent, name) {
            None => violations.add(
                field(),
                format!("must be the name of an assignment of the parent: {parent}/toolAssignments/ and the id"),
            ),
            Some(uid) if !uids.insert(uid) => violations.add(field(), "is a duplicate"),
            Some(_) => {}
        }
    }
    violations.into_result(())?;
    let allowed = async |tx: &mut Tx| may_assign(tx, caller, &parent).await;
    let mut tx = registry.write_allowed(caller, allowed).await?;
    let consumer = allowed(&mut tx).await?;
    let found = super::find_visible(&mut tx, caller, &consumer, &uids).await?;
    if let Some(missing) = uids.iter().find(|uid| !found.contains_key(**uid)) {
        return Err(Error::NotFound(format!("{parent}/toolAssignments/{missing}")));
    }
    assignments::delete(&mut tx, &uids.into_iter().collect::<Vec<_>>()).await?;
    Ok(((), registry.commit(tx, None).await?))
}
