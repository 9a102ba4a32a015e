//! Teams: admins curate them, members read them.

use std::collections::HashMap;

use contracts::registry::{
    AddTeamMemberRequest, CreateTeamRequest, DeleteTeamRequest, ListTeamMembersRequest, ListTeamMembersResponse,
    ListTeamsRequest, ListTeamsResponse, RemoveTeamMemberRequest, Team, TeamMember, UpdateTeamRequest,
    add_team_member_request::Member, team_mapping::Selector,
};
use service_kit::{UserId, status::Violations};
use uuid::Uuid;

use super::{Done, require_request, slug_in, unchanged, written};
use crate::{
    api::{Registry, paging::Page},
    domain::{
        Caller, Error, etag, field_mask,
        text::{SLUG_RULE, check_line, is_slug},
    },
    store::{Tx, load, requests::Request, teams, users},
};

const MAX_MAPPINGS: usize = 32;
const MAX_NAME: usize = 120;
const MAX_CLAIM: usize = 255;

/// Adds a team.
pub(crate) async fn create(
    registry: &Registry,
    caller: &Caller,
    request: CreateTeamRequest,
) -> Result<Done<Team>, Error> {
    caller.require_admin()?;
    let mut violations = Violations::new();
    let no_maps: [&HashMap<String, String>; 0] = [];
    let retry = Request::new(&caller.uid, "CreateTeam", &request.request_id, &no_maps, &request);
    let retry = require_request(&mut violations, retry);
    let slug = request.team_id.as_str();
    if !is_slug(slug) {
        violations.add("team_id", SLUG_RULE);
    }
    let team = request.team.clone();
    if team.is_none() {
        violations.add("team", "must be set");
    }
    let team = check(&mut violations, team.unwrap_or_default(), slug);
    let (Some(retry), true) = (retry, violations.is_empty()) else {
        return Err(violations.into());
    };
    let mut tx = registry.db.write().await?;
    if let Some(uid) = retry.replayed(&mut tx).await? {
        let team = find(&mut tx, &uid)
            .await?
            .ok_or_else(|| Error::NotFound(format!("teams/{slug}")))?;
        return unchanged(registry, tx, team).await;
    }
    if load::team_uid(&mut tx, slug).await?.is_some() {
        return Err(Error::AlreadyExists(format!("teams/{slug}")));
    }
    let (uid, now) = (Uuid::new_v4().to_string(), registry.clock.now_micros());
    teams::insert(&mut tx, &uid, slug, &team, now).await?;
    retry.made(&mut tx, &uid, now).await?;
    finish(registry, tx, &uid).await
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
    let page = Page::parse(&registry.pages, binding, request.page_size, &request.page_token)?;
    let mut tx = registry.db.read().await?;
    let (mut time, mut uid) = (page.start().0, page.start().1.to_owned());
    let mut found = Vec::new();
    'pages: loop {
        let some = teams::after(&mut tx, (time, &uid), page.limit()).await?;
        let last = some.len() < usize::try_from(page.limit()).unwrap_or(usize::MAX);
        for position in some {
            (time, uid) = position.clone();
            if caller.admin || caller.team(&uid).is_some() {
                found.push(position);
            }
            if found.len() > page.size {
                break 'pages;
            }
        }
        if last {
            break;
        }
    }
    let next_page_token = page.cut(&registry.pages, &mut found, Clone::clone);
    let mut teams = Vec::with_capacity(found.len());
    for (_, uid) in found {
        teams.extend(find(&mut tx, &uid).await?);
    }
    Ok(ListTeamsResponse { teams, next_page_token })
}

/// Changes a team.
pub(crate) async fn update(
    registry: &Registry,
    caller: &Caller,
    request: UpdateTeamRequest,
) -> Result<Done<Team>, Error> {
    let change = request.team.ok_or_else(|| Error::invalid("team", "must be set"))?;
    let mut tx = registry.db.write().await?;
    let mut team = administered(&mut tx, caller, "team.name", &change.name).await?;
    etag::check(&change.etag, &team.etag, &team.name)?;
    let fields = ["display_name", "mappings", "members_manage_installations"];
    let paths = field_mask::parse(request.update_mask.as_ref(), &fields)?;
    if paths.holds("display_name") {
        team.display_name = change.display_name;
    }
    if paths.holds("mappings") {
        team.mappings = change.mappings;
    }
    if paths.holds("members_manage_installations") {
        team.members_manage_installations = change.members_manage_installations;
    }
    let mut violations = Violations::new();
    let slug = team.name.trim_start_matches("teams/").to_owned();
    let team = check(&mut violations, team, &slug);
    violations.into_result(())?;
    teams::update(&mut tx, &team.uid, &team, registry.clock.now_micros()).await?;
    finish(registry, tx, &team.uid).await
}

/// Deletes a team that nothing uses.
pub(crate) async fn delete(
    registry: &Registry,
    caller: &Caller,
    request: DeleteTeamRequest,
) -> Result<Done<Team>, Error> {
    let mut tx = registry.db.write().await?;
    let mut team = administered(&mut tx, caller, "name", &request.name).await?;
    etag::check(&request.etag, &team.etag, &team.name)?;
    if let Some(use_) = teams::in_use(&mut tx, &team.uid).await? {
        return Err(Error::TeamInUse(format!("{} {use_}", team.name)));
    }
    teams::delete(&mut tx, &team.uid).await?;
    let propagated = registry.commit(tx, None).await?;
    team.revision = propagated.revision;
    Ok((team, propagated))
}

/// Adds a member by name.
pub(crate) async fn add_member(
    registry: &Registry,
    caller: &Caller,
    request: AddTeamMemberRequest,
) -> Result<Done<TeamMember>, Error> {
    let now = registry.clock.now_micros();
    let mut tx = registry.db.write().await?;
    let team = administered(&mut tx, caller, "team", &request.team).await?;
    let user = match request.member {
        Some(Member::User(name)) => {
            let user = user_id("user", &name)?;
            users::find(&mut tx, &user).await?.ok_or(Error::NotFound(name))?.uid
        }
        Some(Member::Identity(identity)) => {
            let mut violations = Violations::new();
            check_claim(&mut violations, "identity.issuer", &identity.issuer);
            check_claim(&mut violations, "identity.subject", &identity.subject);
            violations.into_result(())?;
            users::put(&mut tx, &identity.issuer, &identity.subject, "", "", now).await?;
            UserId::of(&identity.issuer, &identity.subject).as_str().to_owned()
        }
        None => return Err(Error::invalid("member", "must be set: user or identity")),
    };
    teams::add_member(&mut tx, &team.uid, &user, now).await?;
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
    let mut tx = registry.db.write().await?;
    let team = administered(&mut tx, caller, "team", &request.team).await?;
    teams::remove_member(&mut tx, &team.uid, &user_id("user", &request.user)?).await?;
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
    let page = Page::parse(&registry.pages, binding, request.page_size, &request.page_token)?;
    let mut found = teams::members_after(&mut tx, &team.uid, page.start(), page.limit()).await?;
    let next_page_token = page.cut(&registry.pages, &mut found, |(time, uid, _)| (*time, uid.clone()));
    Ok(ListTeamMembersResponse {
        team_members: found.into_iter().map(member_message).collect(),
        next_page_token,
    })
}

fn member_message((create_time, uid, email): teams::Member) -> TeamMember {
    TeamMember {
        user: format!("users/{uid}"),
        email,
        create_time: Some(load::timestamp(create_time)),
    }
}

fn check(violations: &mut Violations, mut team: Team, slug: &str) -> Team {
    if team.display_name.is_empty() {
        team.display_name = slug.to_owned();
    }
    check_line(violations, "team.display_name", &team.display_name, MAX_NAME);
    if team.mappings.len() > MAX_MAPPINGS {
        violations.add("team.mappings", format!("must be at most {MAX_MAPPINGS}"));
    }
    for (index, mapping) in team.mappings.iter().enumerate() {
        let path = format!("team.mappings[{index}]");
        check_claim(violations, &format!("{path}.issuer"), &mapping.issuer);
        match &mapping.selector {
            None => violations.add(format!("{path}.selector"), "must say whom: group or whole_issuer"),
            Some(Selector::Group(group)) => check_claim(violations, &format!("{path}.group"), group),
            Some(Selector::WholeIssuer(_)) => {}
        }
    }
    team
}

fn check_claim(violations: &mut Violations, path: &str, text: &str) {
    if text.is_empty() || text.len() > MAX_CLAIM || text.chars().any(char::is_control) {
        violations.add(
            path,
            format!("must have 1 to {MAX_CLAIM} bytes, none of them a control character"),
        );
    }
}

/// The id in `users/{user}`.
pub(super) fn user_id(field: &str, name: &str) -> Result<String, Error> {
    name.strip_prefix("users/")
        .and_then(UserId::parse)
        .map(|id| id.as_str().to_owned())
        .ok_or_else(|| Error::invalid(field, "must be a resource name: users/ and the id"))
}

async fn find(tx: &mut Tx, uid: &str) -> Result<Option<Team>, Error> {
    Ok(load::team(tx, uid).await?.and_then(|watched| watched.team))
}

async fn visible(tx: &mut Tx, caller: &Caller, field: &str, name: &str) -> Result<Team, Error> {
    let slug = slug_in("teams", field, name)?;
    let found = match load::team_uid(tx, slug).await? {
        Some(uid) if caller.admin || caller.team(&uid).is_some() => find(tx, &uid).await?,
        _ => None,
    };
    found.ok_or_else(|| Error::NotFound(name.to_owned()))
}

async fn administered(tx: &mut Tx, caller: &Caller, field: &str, name: &str) -> Result<Team, Error> {
    let team = visible(tx, caller, field, name).await?;
    caller.require_admin()?;
    Ok(team)
}

async fn finish(registry: &Registry, mut tx: Tx, uid: &str) -> Result<Done<Team>, Error> {
    let team = written(find(&mut tx, uid).await?)?;
    Ok((team, registry.commit(tx, None).await?))
}
