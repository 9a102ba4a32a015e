//! Teams: admins curate them, members read them.

use contracts::registry::{
    AddTeamMemberRequest, CreateTeamRequest, DeleteTeamRequest, ListTeamMembersRequest, ListTeamMembersResponse,
    ListTeamsRequest, ListTeamsResponse, RemoveTeamMemberRequest, Team, TeamMember, UpdateTeamRequest, UserIdentity,
    add_team_member_request::Member, team_mapping::Selector,
};
use prost_types::FieldMask;
use service_kit::{UserId, status::Violations};

use super::{Done, Registry, creation::Creation, slug_in, unchanged, written};
use crate::{
    domain::{
        Caller, Error, etag,
        field_mask::{Mask, check_size},
        new_uid,
        text::check_line,
        time::timestamp,
    },
    store::{Object, Tx, list::Listed, teams, users},
};

const MAX_MAPPINGS: usize = 32;
const MAX_NAME: usize = 120;
const MAX_CLAIM: usize = 255;
/// What the name of a user must be where the user may be unknown to the registry, as people read it.
pub(super) const NOT_A_USER: &str = "must be users/{user}, with the 26 characters that UserService shows; whoever has not been here \
    is named by identity: issuer and subject";

/// Adds a team.
pub(crate) async fn create(
    registry: &Registry,
    caller: &Caller,
    request: CreateTeamRequest,
) -> Result<Done<Team>, Error> {
    caller.require_admin()?;
    let without_id = CreateTeamRequest {
        request_id: String::new(),
        ..request.clone()
    };
    let mut creation = Creation::new(caller, "CreateTeam", &request.request_id, &[], &without_id);
    let slug = request.team_id.as_str();
    creation.require_slug("team_id", slug);
    let team = creation.parse("team", request.team, check);
    let (team, retry) = creation.finish(team)?;
    let name = format!("teams/{slug}");
    let mut tx = registry.write(caller.actor()).await?;
    if let Some(replay) = retry.replayed::<Team>(&mut tx).await? {
        let team = teams::by_uid(&mut tx, &replay.resource_uid).await?;
        let revision = team.ok_or(Error::NotFound(name))?.registry_revision;
        return unchanged(registry, tx, Object::Team, revision, replay.answer).await;
    }
    if teams::uid(&mut tx, slug).await?.is_some() {
        return Err(Error::AlreadyExists(name));
    }
    let now = Some(timestamp(tx.now()));
    let mut team = Team {
        name,
        uid: new_uid(),
        display_name: team.display_name,
        mappings: team.mappings,
        members_manage_installations: team.members_manage_installations,
        create_time: now,
        update_time: now,
        ..Team::default()
    };
    teams::put(&mut tx, &mut team).await?;
    retry.made(&mut tx, &team.uid, &team).await?;
    Ok((team, registry.commit(tx, None).await?))
}

/// Reads a team of the caller's; any for an admin.
pub(crate) async fn get(registry: &Registry, caller: &Caller, name: &str) -> Result<Team, Error> {
    let mut tx = registry.db.read().await?;
    visible(&mut tx, caller, "name", name).await
}

/// Lists the caller's teams; all for an admin.
pub(crate) async fn list(
    registry: &Registry,
    caller: &Caller,
    request: ListTeamsRequest,
) -> Result<ListTeamsResponse, Error> {
    let binding = format!("ListTeams {} {}", caller.uid, caller.admin);
    let page = registry.page(binding, request.page_size, &request.page_token)?;
    if !caller.admin && caller.teams.is_empty() {
        return Ok(ListTeamsResponse::default());
    }
    let mut tx = registry.db.read().await?;
    let (teams, next_page_token) = page.of(&mut tx, &teams::list(caller), Listed::message).await?;
    Ok(ListTeamsResponse { teams, next_page_token })
}

/// Changes a team.
pub(crate) async fn update(
    registry: &Registry,
    caller: &Caller,
    request: UpdateTeamRequest,
) -> Result<Done<Team>, Error> {
    check_size(request.update_mask.as_ref())?;
    let change = request.team.ok_or_else(|| Error::invalid("team", "must be set"))?;
    let allowed = async |tx: &mut Tx| administered(tx, caller, "team.name", &change.name).await;
    let mut tx = registry.write_allowed(caller, allowed).await?;
    let current = allowed(&mut tx).await?;
    etag::check(&change.etag, &current.etag, &current.name)?;
    let mut next = check(apply_mask(&current, change, request.update_mask.as_ref())?)?;
    if next == current {
        return unchanged(registry, tx, Object::Team, current.registry_revision, current).await;
    }
    next.update_time = Some(timestamp(tx.now()));
    teams::put(&mut tx, &mut next).await?;
    Ok((next, registry.commit(tx, None).await?))
}

fn apply_mask(current: &Team, change: Team, mask: Option<&FieldMask>) -> Result<Team, Violations> {
    let Team {
        name: _,
        uid: _,
        display_name,
        mappings,
        members_manage_installations,
        etag: _,
        create_time: _,
        update_time: _,
        registry_revision: _,
    } = change;
    let mut next = current.clone();
    let mut mask = Mask::new(mask);
    mask.apply("display_name", &mut next.display_name, display_name);
    mask.apply("mappings", &mut next.mappings, mappings);
    mask.apply(
        "members_manage_installations",
        &mut next.members_manage_installations,
        members_manage_installations,
    );
    mask.finish()?;
    Ok(next)
}

/// Deletes a team that nothing uses.
pub(crate) async fn delete(
    registry: &Registry,
    caller: &Caller,
    request: DeleteTeamRequest,
) -> Result<Done<Team>, Error> {
    let allowed = async |tx: &mut Tx| administered(tx, caller, "name", &request.name).await;
    let mut tx = registry.write_allowed(caller, allowed).await?;
    let mut team = allowed(&mut tx).await?;
    etag::check(&request.etag, &team.etag, &team.name)?;
    if let Some(use_) = teams::in_use(&mut tx, &team.uid).await? {
        return Err(Error::TeamInUse(format!("{} {use_}", team.name)));
    }
    teams::delete(&mut tx, &team).await?;
    team.registry_revision = tx.revision();
    Ok((team, registry.commit(tx, None).await?))
}

/// Adds a member by name.
pub(crate) async fn add_member(
    registry: &Registry,
    caller: &Caller,
    request: AddTeamMemberRequest,
) -> Result<Done<TeamMember>, Error> {
    let allowed = async |tx: &mut Tx| administered(tx, caller, "team", &request.team).await;
    let mut tx = registry.write_allowed(caller, allowed).await?;
    let team = allowed(&mut tx).await?;
    let user = match request.member {
        Some(Member::User(name)) => {
            let user = user_id("user", &name).map_err(|_| Error::invalid("user", NOT_A_USER))?;
            users::find(&mut tx, &user).await?.ok_or(Error::NotFound(name))?.uid
        }
        Some(Member::Identity(identity)) => {
            check_identity(&identity)?;
            users::add(&mut tx, &identity.issuer, &identity.subject).await?
        }
        None => return Err(Error::invalid("member", "must be set: user or identity")),
    };
    if let Some(member) = teams::member(&mut tx, &team.uid, &user).await? {
        let revision = member.registry_revision;
        return unchanged(registry, tx, Object::TeamMember, revision, member_message(member)).await;
    }
    teams::add_member(&mut tx, &team.uid, &user).await?;
    let member = written(teams::member(&mut tx, &team.uid, &user).await?)?;
    let propagated = registry.commit(tx, None).await?;
    Ok((member_message(member), propagated))
}

/// Removes a member by name.
pub(crate) async fn remove_member(
    registry: &Registry,
    caller: &Caller,
    request: RemoveTeamMemberRequest,
) -> Result<Done<()>, Error> {
    let allowed = async |tx: &mut Tx| administered(tx, caller, "team", &request.team).await;
    let mut tx = registry.write_allowed(caller, allowed).await?;
    let team = allowed(&mut tx).await?;
    let user = user_id("user", &request.user)?;
    if !teams::remove_member(&mut tx, &team.uid, &user).await? {
        // When they were removed is not kept: whatever is the latest is in force then, the removal is too.
        let latest = tx.revision() - 1;
        return unchanged(registry, tx, Object::TeamMember, latest, ()).await;
    }
    let propagated = registry.commit(tx, None).await?;
    Ok(((), propagated))
}

/// Lists the members by name.
pub(crate) async fn list_members(
    registry: &Registry,
    caller: &Caller,
    request: ListTeamMembersRequest,
) -> Result<ListTeamMembersResponse, Error> {
    let mut tx = registry.db.read().await?;
    let team = visible(&mut tx, caller, "parent", &request.parent).await?;
    let binding = format!("ListTeamMembers {} {}", caller.uid, team.uid);
    let page = registry.page(binding, request.page_size, &request.page_token)?;
    let found = teams::members(&mut tx, &team.uid, page.start(), page.limit()).await?;
    let (found, next_page_token) = page.cut(found, |member| (member.create_time, member.user_uid.clone()), |_| 0);
    Ok(ListTeamMembersResponse {
        team_members: found.into_iter().map(member_message).collect(),
        next_page_token,
    })
}

fn member_message(member: teams::Member) -> TeamMember {
    TeamMember {
        user: format!("users/{}", member.user_uid),
        email: member.email,
        create_time: Some(timestamp(member.create_time)),
    }
}

/// Checks what an admin says of a team, and makes defaults explicit.
fn check(mut team: Team) -> Result<Team, Violations> {
    let mut violations = Violations::new();
    team.members_manage_installations = Some(team.members_manage_installations());
    check_line(&mut violations, "team.display_name", &team.display_name, MAX_NAME);
    if team.mappings.len() > MAX_MAPPINGS {
        violations.add("team.mappings", format!("must have at most {MAX_MAPPINGS} elements"));
        return Err(violations);
    }
    for (index, mapping) in team.mappings.iter().enumerate() {
        let path = format!("team.mappings[{index}]");
        check_claim(&mut violations, &format!("{path}.issuer"), &mapping.issuer);
        match &mapping.selector {
            None => violations.add(format!("{path}.selector"), "must be set: group or whole_issuer"),
            Some(Selector::Group(group)) => check_claim(&mut violations, &format!("{path}.group"), group),
            Some(Selector::WholeIssuer(_)) => {}
        }
    }
    violations.into_result(team)
}

fn check_claim(violations: &mut Violations, path: &str, text: &str) {
    if text.is_empty() || text.len() > MAX_CLAIM || text.chars().any(char::is_control) {
        violations.add(
            path,
            format!("must have 1 to {MAX_CLAIM} bytes, none of them a control character"),
        );
    }
}

/// Checks who somebody is said to be.
pub(super) fn check_identity(identity: &UserIdentity) -> Result<(), Violations> {
    let mut violations = Violations::new();
    check_claim(&mut violations, "identity.issuer", &identity.issuer);
    check_claim(&mut violations, "identity.subject", &identity.subject);
    violations.into_result(())
}

/// The id in `users/{user}`.
pub(super) fn user_id(field: &str, name: &str) -> Result<String, Error> {
    name.strip_prefix("users/")
        .and_then(UserId::parse)
        .map(|id| id.as_str().to_owned())
        .ok_or_else(|| {
            Error::invalid(
                field,
                "must be users/{user}, with the 26 characters that UserService shows",
            )
        })
}

async fn visible(tx: &mut Tx, caller: &Caller, field: &str, name: &str) -> Result<Team, Error> {
    let found = teams::find(tx, slug_in("teams", field, name)?).await?;
    found
        .filter(|team| caller.admin || caller.team(&team.uid).is_some())
        .ok_or_else(|| Error::NotFound(name.to_owned()))
}

async fn administered(tx: &mut Tx, caller: &Caller, field: &str, name: &str) -> Result<Team, Error> {
    let team = visible(tx, caller, field, name).await?;
    caller.require_admin()?;
    Ok(team)
}
