//! Requests of TeamService, UserService and GatewayTokenService.

use contracts::registry::{
    self as r, add_team_member_request::Member, deactivate_user_request, gateway_token::Subject,
};
use integration_tests::walk::request_id;
use service_kit::UserId;

use super::request::{Request, scope};
use crate::world::{Team, Who, World};

pub(super) async fn teams(world: &World, method: &str, about: &str, who: Who) -> Option<Request> {
    if (method, about) == ("CreateTeam", "new") {
        return Some(Request::new(r::CreateTeamRequest {
            team_id: world.fresh("t"),
            team: Some(r::Team::default()),
            request_id: request_id(),
        }));
    }
    if about != "a team's" {
        return None;
    }
    let name = format!("teams/{}", world.fresh("t"));
    world.create_team(&name, who.team() == Team::Managers).await;
    if matches!(who, Who::Member | Who::Manager) {
        world.join(&name, &World::subject(who)).await;
    }
    Some(match method {
        "GetTeam" => Request::on(&name, r::GetTeamRequest { name: name.clone() }),
        "ListTeams" => Request::new(r::ListTeamsRequest {
            page_size: 500,
            ..r::ListTeamsRequest::default()
        })
        .lists(&name),
        "UpdateTeam" => Request::on(
            &name,
            r::UpdateTeamRequest {
                team: Some(r::Team {
                    name: name.clone(),
                    members_manage_installations: Some(true),
                    ..r::Team::default()
                }),
                update_mask: None,
            },
        ),
        "DeleteTeam" => Request::on(
            &name,
            r::DeleteTeamRequest {
                name: name.clone(),
                etag: String::new(),
            },
        ),
        "AddTeamMember" => Request::on(
            &name,
            r::AddTeamMemberRequest {
                team: name.clone(),
                member: Some(Member::User(
                    UserId::of(world.issuer(), &World::subject(who)).resource_name(),
                )),
            },
        ),
        "RemoveTeamMember" => Request::on(
            &name,
            r::RemoveTeamMemberRequest {
                team: name.clone(),
                user: world.join(&name, &world.fresh("joiner")).await,
            },
        ),
        "ListTeamMembers" => Request::on(
            &name,
            r::ListTeamMembersRequest {
                parent: name.clone(),
                ..r::ListTeamMembersRequest::default()
            },
        ),
        _ => return None,
    })
}

pub(super) async fn users(world: &World, method: &str, about: &str) -> Option<Request> {
    if (method, about) == ("GetUser", "oneself") {
        return Some(Request::new(r::GetUserRequest {
            name: "users/me".to_owned(),
        }));
    }
    if about != "another" {
        return None;
    }
    let name = world.newcomer().await;
    if method == "ListUsers" {
        return Some(Request::new(r::ListUsersRequest::default()));
    }
    let request = match method {
        "GetUser" => Request::on(&name, r::GetUserRequest { name: name.clone() }),
        "DeactivateUser" => Request::on(
            &name,
            r::DeactivateUserRequest {
                user: Some(deactivate_user_request::User::Name(name.clone())),
            },
        ),
        "ReactivateUser" => Request::on(&name, r::ReactivateUserRequest { name: name.clone() }),
        _ => return None,
    };
    Some(request.invisible())
}

pub(super) async fn gateway_tokens(world: &World, method: &str, about: &str, who: Who) -> Option<Request> {
    let team = scope(about, who)?;
    if method == "CreateGatewayToken" {
        let message = r::CreateGatewayTokenRequest {
            gateway_token: Some(r::GatewayToken {
                display_name: "a client".to_owned(),
                subject: team.map(|team| Subject::Team(team.name().to_owned())),
                ..r::GatewayToken::default()
            }),
            request_id: request_id(),
        };
        return Some(match team {
            None => Request::new(message),
            Some(team) => Request::on(team.name(), message),
        });
    }
    let made = world.create_token(team).await.gateway_token.unwrap_or_default();
    let name = made.name;
    Some(match method {
        "GetGatewayToken" => Request::on(&name, r::GetGatewayTokenRequest { name: name.clone() }),
        "ListGatewayTokens" => Request::new(r::ListGatewayTokensRequest {
            page_size: 500,
            ..r::ListGatewayTokensRequest::default()
        })
        .lists(&name),
        "RevokeGatewayToken" => Request::on(&name, r::RevokeGatewayTokenRequest { name: name.clone() }),
        _ => return None,
    })
}
