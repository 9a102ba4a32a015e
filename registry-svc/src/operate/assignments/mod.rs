//! Tool assignments: creating, reading and changing them.

pub(crate) mod batch;
mod plan;

use std::collections::{BTreeMap, BTreeSet};

use contracts::registry::{
    CreateToolAssignmentRequest, DeleteToolAssignmentRequest, Gateway, ListToolAssignmentsRequest,
    ListToolAssignmentsResponse, ToolAssignment, UpdateToolAssignmentRequest, tool_assignment::Binding,
};

use super::{Done, consumers, creation::Creation, unchanged};
use crate::{
    domain::{
        Caller, Error,
        assignment::{AssignmentSpec, HIDDEN_INSTALLATION, apply_mask, pinned_uid},
        consumer::ConsumerKind,
        etag,
        field_mask::check_size,
        text::is_uuid,
        time::timestamp,
    },
    operate::Registry,
    store::{Object, Tx, assignments, list::Listed},
};
use plan::{Asked, alone, check_pin, consent, plan, require_free};

/// Assigns a tool, or all tools of an entry.
pub(crate) async fn create(
    registry: &Registry,
    caller: &Caller,
    request: CreateToolAssignmentRequest,
) -> Result<Done<ToolAssignment>, Error> {
    let without_id = CreateToolAssignmentRequest {
        request_id: String::new(),
        ..request.clone()
    };
    let mut creation = Creation::new(caller, "CreateToolAssignment", &request.request_id, &[], &without_id);
    creation.require_name(
        ConsumerKind::of(&request.parent).collection(),
        "parent",
        &request.parent,
    );
    let asked = request.tool_assignment.unwrap_or_default();
    let spec = creation.parse("tool_assignment", Some(asked), AssignmentSpec::parse);
    let (spec, retry) = creation.finish(spec)?;
    let allowed = async |tx: &mut Tx| may_assign(tx, caller, &request.parent).await;
    let mut tx = registry.write_allowed(caller, allowed).await?;
    let consumer = allowed(&mut tx).await?;
    if let Some(replay) = retry.replayed::<ToolAssignment>(&mut tx).await? {
        let mut answer = [replay.answer];
        let revision = still_visible(&mut tx, caller, &consumer, &answer).await?;
        show(&mut tx, caller, &mut answer).await?;
        let [answer] = answer;
        return unchanged(registry, tx, Object::ToolAssignment, revision, answer).await;
    }
    let confirmed = request.confirm_shared_account;
    let mut made = plan(&mut tx, caller, &consumer, &[Asked { spec, confirmed }], alone).await?;
    assignments::insert(&mut tx, &mut made).await?;
    let assignment = super::written(made.pop())?;
    retry.made(&mut tx, &assignment.uid, &assignment).await?;
    Ok((assignment, registry.commit(tx, None).await?))
}

/// Reads one.
pub(crate) async fn get(registry: &Registry, caller: &Caller, name: &str) -> Result<ToolAssignment, Error> {
    let mut tx = registry.db.read().await?;
    let (_, assignment) = visible(&mut tx, caller, "name", name).await?;
    shown(&mut tx, caller, assignment).await
}

/// Lists those of one gateway or agent.
pub(crate) async fn list(
    registry: &Registry,
    caller: &Caller,
    request: ListToolAssignmentsRequest,
) -> Result<ListToolAssignmentsResponse, Error> {
    let mut tx = registry.db.read().await?;
    let consumer = visible_parent(&mut tx, caller, &request.parent).await?;
    let binding = format!("ListToolAssignments {} {}", caller.uid, consumer.uid);
    let page = registry.page(binding, request.page_size, &request.page_token)?;
    let list = assignments::list(caller, &consumer.uid);
    let (mut tool_assignments, next_page_token) = page.of(&mut tx, &list, Listed::message).await?;
    show(&mut tx, caller, &mut tool_assignments).await?;
    Ok(ListToolAssignmentsResponse {
        tool_assignments,
        next_page_token,
    })
}

/// Changes the exposed name, or how the installation is chosen.
pub(crate) async fn update(
    registry: &Registry,
    caller: &Caller,
    request: UpdateToolAssignmentRequest,
) -> Result<Done<ToolAssignment>, Error> {
    check_size(request.update_mask.as_ref())?;
    let change = request
        .tool_assignment
        .ok_or_else(|| Error::invalid("tool_assignment", "must be set"))?;
    let allowed =
        async |tx: &mut Tx| administered(tx, caller, "tool_assignment.name", &change.name, &change.etag).await;
    let mut tx = registry.write_allowed(caller, allowed).await?;
    let (consumer, current) = allowed(&mut tx).await?;
    let mut next = apply_mask(&current, change, request.update_mask.as_ref())?;
    let moved = pinned_uid(&next) != pinned_uid(&current);
    let agreed = (current.consented_visibility.clone(), current.consent_time);
    (next.consented_visibility, next.consent_time) = match pinned_uid(&next) {
        None => (None, None),
        Some(_) if !moved && !request.confirm_shared_account => agreed,
        Some(uid) => {
            let found = assignments::installations(&mut tx, &BTreeSet::from([uid])).await?;
            let found = found.get(uid);
            if moved || found.is_some_and(|one| one.user_uid.is_some() && one.seen_by(caller)) {
                let confirmed = request.confirm_shared_account;
                let installation = check_pin(caller, uid, found, &current.entry_uid, confirmed)?;
                let agreed = consent(&consumer, installation.user_uid.is_some());
                let time = agreed.as_ref().map(|_| timestamp(tx.now()));
                (agreed, time)
            } else {
                // Nobody's account is shared, or that of somebody unknown to the caller.
                agreed
            }
        }
    };
    if next == current {
        let current = shown(&mut tx, caller, current).await?;
        return unchanged(registry, tx, Object::ToolAssignment, current.registry_revision, current).await;
    }
    require_free(&mut tx, caller, &consumer, std::slice::from_ref(&next)).await?;
    next.update_time = Some(timestamp(tx.now()));
    assignments::update(&mut tx, &mut next).await?;
    let next = shown(&mut tx, caller, next).await?;
    Ok((next, registry.commit(tx, None).await?))
}

/// Deletes an assignment.
pub(crate) async fn delete(
    registry: &Registry,
    caller: &Caller,
    request: DeleteToolAssignmentRequest,
) -> Result<Done<ToolAssignment>, Error> {
    let allowed = async |tx: &mut Tx| administered(tx, caller, "name", &request.name, &request.etag).await;
    let mut tx = registry.write_allowed(caller, allowed).await?;
    let (_, assignment) = allowed(&mut tx).await?;
    assignments::delete(&mut tx, &[&assignment.uid]).await?;
    let mut assignment = shown(&mut tx, caller, assignment).await?;
    assignment.registry_revision = tx.revision();
    Ok((assignment, registry.commit(tx, None).await?))
}

/// The uid in `{parent}/toolAssignments/{uid}`.
fn uid_below<'a>(parent: &str, name: &'a str) -> Option<&'a str> {
    let uid = name.strip_prefix(parent)?.strip_prefix("/toolAssignments/")?;
    is_uuid(uid).then_some(uid)
}

/// The assignment of this name, and what it belongs to, if the caller may see it: the entry is visible, too.
async fn visible(tx: &mut Tx, caller: &Caller, field: &str, name: &str) -> Result<(Gateway, ToolAssignment), Error> {
    let (parent, uid) = name.split_once("/toolAssignments/").filter(|(_, uid)| is_uuid(uid)).ok_or_else(|| {
        Error::invalid(field, "must be an assignment's name: gateways/{gateway}/toolAssignments/ or agents/{agent}/toolAssignments/ and the id")
    })?;
    let consumer = visible_parent(tx, caller, parent).await?;
    let mut found = find_visible(tx, caller, &consumer, &BTreeSet::from([uid])).await?;
    let assignment = found.remove(uid).ok_or_else(|| Error::NotFound(name.to_owned()))?;
    Ok((consumer, assignment))
}

/// Those of these assignments, by uid, that the gateway or agent has and whose entry the caller may see.
async fn find_visible(
    tx: &mut Tx,
    caller: &Caller,
    consumer: &Gateway,
    uids: &BTreeSet<&str>,
) -> Result<BTreeMap<String, ToolAssignment>, Error> {
    let mut found = assignments::find(tx, uids).await?;
    found.retain(|one| one.consumer_uid == consumer.uid);
    let entries = found.iter().map(|one| one.entry_uid.as_str()).collect();
    let entries = assignments::visible_entries(tx, caller, &entries).await?;
    found.retain(|one| entries.contains(&one.entry_uid));
    Ok(found.into_iter().map(|one| (one.uid.clone(), one)).collect())
}

/// The registry revision of the last change of what was answered before; NOT_FOUND if some of it is gone, or the caller may not
/// see it any more.
async fn still_visible(
    tx: &mut Tx,
    caller: &Caller,
    consumer: &Gateway,
    answered: &[ToolAssignment],
) -> Result<i64, Error> {
    let uids = answered.iter().map(|one| one.uid.as_str()).collect();
    let found = find_visible(tx, caller, consumer, &uids).await?;
    match answered.iter().find(|one| !found.contains_key(&one.uid)) {
        Some(gone) => Err(Error::NotFound(gone.name.clone())),
        None => Ok(found
            .values()
            .map(|one| one.registry_revision)
            .max()
            .unwrap_or_default()),
    }
}

async fn visible_parent(tx: &mut Tx, caller: &Caller, parent: &str) -> Result<Gateway, Error> {
    consumers::visible(tx, caller, ConsumerKind::of(parent), "parent", parent).await
}

/// The gateway or agent of this name, if the caller may assign tools to it.
async fn may_assign(tx: &mut Tx, caller: &Caller, parent: &str) -> Result<Gateway, Error> {
    let consumer = visible_parent(tx, caller, parent).await?;
    require_assigner(caller, &consumer)?;
    Ok(consumer)
}

/// The assignment of this name and whose it is, if the caller may change it and has read its latest state.
async fn administered(
    tx: &mut Tx,
    caller: &Caller,
    field: &str,
    name: &str,
    given: &str,
) -> Result<(Gateway, ToolAssignment), Error> {
    let (consumer, assignment) = visible(tx, caller, field, name).await?;
    require_assigner(caller, &consumer)?;
    etag::check(given, &assignment.etag, &assignment.name)?;
    Ok((consumer, assignment))
}

/// Requires that the caller may assign tools: admins, and the creator of the gateway or agent.
fn require_assigner(caller: &Caller, consumer: &Gateway) -> Result<(), Error> {
    if caller.admin || consumer.creator == caller.name() {
        return Ok(());
    }
    Err(Error::Denied {
        what: format!("only an admin may assign tools to {}", consumer.name),
        required: "admin",
    })
}

/// Makes assignments what the caller is shown: without the names of installations that they may not see.
async fn show(tx: &mut Tx, caller: &Caller, assignments: &mut [ToolAssignment]) -> Result<(), Error> {
    if caller.admin {
        return Ok(());
    }
    let pinned = assignments.iter().filter_map(pinned_uid).collect();
    let visible = assignments::visible_installations(tx, caller, &pinned).await?;
    for one in assignments {
        if pinned_uid(one).is_some_and(|uid| !visible.contains(uid)) {
            one.binding = Some(Binding::PinnedInstallation(HIDDEN_INSTALLATION.to_owned()));
        }
    }
    Ok(())
}

async fn shown(tx: &mut Tx, caller: &Caller, assignment: ToolAssignment) -> Result<ToolAssignment, Error> {
    let mut one = [assignment];
    show(tx, caller, &mut one).await?;
    let [assignment] = one;
    Ok(assignment)
}
