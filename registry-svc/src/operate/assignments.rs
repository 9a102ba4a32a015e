//! Tool assignments: adding, reading and changing them.

use contracts::registry::{
    CreateToolAssignmentRequest, DeleteToolAssignmentRequest, Gateway, Installation, ListToolAssignmentsRequest,
    ListToolAssignmentsResponse, ToolAssignment, UpdateToolAssignmentRequest, installation::Scope,
    tool_assignment::Binding,
};
use service_kit::status::Violations;
use uuid::Uuid;

use super::{Done, consumers, entries, installations, require_request, unchanged, written};
use crate::{
    api::{Registry, paging::Page},
    domain::{
        Caller, Error,
        assignment::{AssignmentSpec, check_binding, check_exposed_name},
        consumer::ConsumerKind,
        etag, field_mask,
        installation::require_team_manager,
        text::is_uuid,
    },
    store::{
        Tx,
        assignments::{self, NewAssignment},
        load,
        requests::Request,
    },
};

/// Assigns a tool.
pub(crate) async fn create(
    registry: &Registry,
    caller: &Caller,
    request: CreateToolAssignmentRequest,
) -> Result<Done<ToolAssignment>, Error> {
    let mut violations = Violations::new();
    let retry = Request::new(&caller.uid, "CreateToolAssignment", &request.request_id, &[], &request);
    let retry = require_request(&mut violations, retry);
    let spec = match AssignmentSpec::parse(request.tool_assignment.unwrap_or_default()) {
        Ok(spec) => Some(spec),
        Err(more) => {
            more.iter()
                .for_each(|(field, description)| violations.add(field, description));
            None
        }
    };
    let (Some(spec), Some(retry), true) = (spec, retry, violations.is_empty()) else {
        return Err(violations.into());
    };
    let mut tx = registry.db.write().await?;
    let consumer = visible_parent(&mut tx, caller, &request.parent).await?;
    if let Some(uid) = retry.replayed(&mut tx).await? {
        let found = load::tool_assignment(&mut tx, &uid)
            .await?
            .and_then(|watched| watched.tool_assignment);
        let assignment = found.ok_or_else(|| Error::NotFound(format!("{}/toolAssignments/{uid}", request.parent)))?;
        return unchanged(registry, tx, assignment).await;
    }
    require_assigner(caller, &consumer)?;
    let entry_name = format!("entries/{}", spec.entry);
    let entry = entries::visible(&mut tx, caller, "tool_assignment.entry", &entry_name).await?;
    let pinned = spec.pinned.as_deref();
    if let Some(uid) = pinned {
        check_pin(&mut tx, caller, uid, &entry.uid, request.confirm_shared_account).await?;
    }
    let known = assignments::has_tool(&mut tx, &entry.uid, &spec.tool).await?
        || match pinned {
            Some(uid) => assignments::has_tool(&mut tx, uid, &spec.tool).await?,
            None => false,
        };
    if !known {
        return Err(Error::ToolUnknown {
            entry: entry_name,
            tool: spec.tool,
        });
    }
    let (uid, now) = (Uuid::new_v4().to_string(), registry.clock.now_micros());
    let new = NewAssignment {
        uid: &uid,
        consumer_uid: &consumer.uid,
        entry_uid: &entry.uid,
        tool: &spec.tool,
        pinned,
        exposed_name: &spec.exposed_name,
        creator: &caller.uid,
        now,
    };
    require_free(&mut tx, &consumer, &new).await?;
    assignments::insert(&mut tx, &new).await?;
    retry.made(&mut tx, &uid, now).await?;
    finish(registry, tx, &uid).await
}

/// Reads one.
pub(crate) async fn get(registry: &Registry, caller: &Caller, name: &str) -> Result<ToolAssignment, Error> {
    let mut tx = registry.db.read().await?;
    visible(&mut tx, caller, "name", name)
        .await
        .map(|found| found.assignment)
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
    let page = Page::parse(&registry.pages, binding, request.page_size, &request.page_token)?;
    let mut positions = assignments::uids_after(&mut tx, &consumer.uid, page.start(), page.limit()).await?;
    let next_page_token = page.cut(&registry.pages, &mut positions, Clone::clone);
    let mut tool_assignments = Vec::with_capacity(positions.len());
    for (_, uid) in positions {
        tool_assignments.extend(
            load::tool_assignment(&mut tx, &uid)
                .await?
                .and_then(|watched| watched.tool_assignment),
        );
    }
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
    const FIELDS: [&str; 3] = ["exposed_name", "pinned_installation", "resolve_at_call_time"];
    let paths = field_mask::parse(request.update_mask.as_ref(), &FIELDS)?;
    let change = request
        .tool_assignment
        .ok_or_else(|| Error::invalid("tool_assignment", "must be set"))?;
    let mut violations = Violations::new();
    let asked = check_binding(&mut violations, change.binding.as_ref());
    let exposed_name = check_exposed_name(&mut violations, change.exposed_name);
    violations.into_result(())?;

    let mut tx = registry.db.write().await?;
    let Found {
        assignment,
        consumer,
        entry_uid,
    } = visible(&mut tx, caller, "tool_assignment.name", &change.name).await?;
    require_assigner(caller, &consumer)?;
    etag::check(&change.etag, &assignment.etag, &assignment.name)?;
    let current = check_binding(&mut Violations::new(), assignment.binding.as_ref());
    // A oneof: whichever case the mask names, a case that is set replaces the present one.
    let resolves = matches!(change.binding, Some(Binding::ResolveAtCallTime(_)));
    let pinned = if paths.holds("pinned_installation") || (paths.holds("resolve_at_call_time") && resolves) {
        asked
    } else {
        current.clone()
    };
    let exposed_name = if paths.holds("exposed_name") {
        exposed_name
    } else {
        assignment.exposed_name.clone()
    };
    if pinned == current && exposed_name == assignment.exposed_name {
        return unchanged(registry, tx, assignment).await;
    }
    if let Some(uid) = pinned.as_deref().filter(|_| pinned != current) {
        check_pin(&mut tx, caller, uid, &entry_uid, request.confirm_shared_account).await?;
    }
    let now = registry.clock.now_micros();
    let next = NewAssignment {
        uid: &assignment.uid,
        consumer_uid: &consumer.uid,
        entry_uid: &entry_uid,
        tool: &assignment.tool,
        pinned: pinned.as_deref(),
        exposed_name: &exposed_name,
        creator: "",
        now,
    };
    require_free(&mut tx, &consumer, &next).await?;
    assignments::update(&mut tx, &assignment.uid, pinned.as_deref(), &exposed_name, now).await?;
    finish(registry, tx, &assignment.uid).await
}

/// Takes the tool away.
pub(crate) async fn delete(
    registry: &Registry,
    caller: &Caller,
    request: DeleteToolAssignmentRequest,
) -> Result<Done<ToolAssignment>, Error> {
    let mut tx = registry.db.write().await?;
    let Found {
        assignment, consumer, ..
    } = visible(&mut tx, caller, "name", &request.name).await?;
    require_assigner(caller, &consumer)?;
    etag::check(&request.etag, &assignment.etag, &assignment.name)?;
    assignments::delete(&mut tx, &assignment.uid).await?;
    let revision = tx.revision();
    let propagated = registry.commit(tx, None).await?;
    Ok((ToolAssignment { revision, ..assignment }, propagated))
}

/// An assignment, and what it belongs to.
struct Found {
    assignment: ToolAssignment,
    consumer: Gateway,
    entry_uid: String,
}

async fn visible(tx: &mut Tx, caller: &Caller, field: &str, name: &str) -> Result<Found, Error> {
    let (parent, uid) = name.split_once("/toolAssignments/").filter(|(_, uid)| is_uuid(uid)).ok_or_else(|| {
        Error::invalid(field, "must be an assignment's name: gateways/{gateway}/toolAssignments/ or agents/{agent}/toolAssignments/ and the id")
    })?;
    let not_found = || Error::NotFound(name.to_owned());
    let consumer = visible_parent(tx, caller, parent).await?;
    let watched = load::tool_assignment(tx, uid)
        .await?
        .filter(|found| found.consumer_uid == consumer.uid)
        .ok_or_else(not_found)?;
    let assignment = watched.tool_assignment.ok_or_else(not_found)?;
    Ok(Found {
        assignment,
        consumer,
        entry_uid: watched.entry_uid,
    })
}

async fn visible_parent(tx: &mut Tx, caller: &Caller, parent: &str) -> Result<Gateway, Error> {
    let kind = if parent.starts_with("agents/") {
        ConsumerKind::Agent
    } else {
        ConsumerKind::Gateway
    };
    consumers::visible(tx, caller, kind, "parent", parent).await
}

/// Lets those pass who assign tools: admins, and whoever made the gateway or agent.
fn require_assigner(caller: &Caller, consumer: &Gateway) -> Result<(), Error> {
    if caller.admin || consumer.creator == caller.name() {
        return Ok(());
    }
    Err(Error::Denied {
        what: format!("to assign tools to {} takes an admin", consumer.name),
        required: "admin",
    })
}

/// Whether the caller may have everybody call through this installation.
async fn check_pin(tx: &mut Tx, caller: &Caller, uid: &str, entry_uid: &str, confirmed: bool) -> Result<(), Error> {
    const FIELD: &str = "tool_assignment.pinned_installation";
    let installation: Installation = installations::visible(tx, caller, FIELD, &format!("installations/{uid}")).await?;
    if installation.delete_time.is_some() {
        return Err(Error::NotFound(installation.name));
    }
    if installation.entry_uid != entry_uid {
        return Err(Error::invalid(
            FIELD,
            format!(
                "is an installation of {}, not of the assigned entry",
                installation.entry
            ),
        ));
    }
    match &installation.scope {
        Some(Scope::Team(team)) => require_team_manager(caller, team),
        Some(Scope::User(user)) if *user == caller.name() => {
            if confirmed {
                Ok(())
            } else {
                Err(Error::SharedAccountNotConfirmed)
            }
        }
        _ => Err(Error::Denied {
            what: "a personal installation is pinned by its owner alone".to_owned(),
            required: "owner",
        }),
    }
}

/// Refuses a second assignment of the same tool with the same binding, and an exposed name that another one has.
async fn require_free(tx: &mut Tx, consumer: &Gateway, new: &NewAssignment<'_>) -> Result<(), Error> {
    let taken = |uid: String| Error::AlreadyExists(format!("{}/toolAssignments/{uid}", consumer.name));
    let same = assignments::same(tx, new.consumer_uid, new.entry_uid, new.tool, new.pinned, new.uid).await?;
    if let Some(uid) = same {
        return Err(taken(uid));
    }
    if !new.exposed_name.is_empty()
        && let Some(uid) = assignments::exposing(tx, new.consumer_uid, new.exposed_name, new.uid).await?
    {
        return Err(taken(uid));
    }
    Ok(())
}

async fn finish(registry: &Registry, mut tx: Tx, uid: &str) -> Result<Done<ToolAssignment>, Error> {
    let assignment = load::tool_assignment(&mut tx, uid)
        .await?
        .and_then(|watched| watched.tool_assignment);
    let assignment = written(assignment)?;
    let propagated = registry.commit(tx, None).await?;
    Ok((assignment, propagated))
}
