//! Requests, without etags, request ids and what else is left out usually: a test that needs more says
//! `CreateEntryRequest { request_id, ..create_entry("time", remote()) }`.

use contracts::registry::*;

use super::mask;

/// Requests that have a name.
macro_rules! named {
    ($($function:ident => $request:ident;)*) => {$(
        #[allow(clippy::needless_update, reason = "some have a name alone")]
        pub fn $function(name: &str) -> $request {
            $request {
                name: name.to_owned(),
                ..Default::default()
            }
        }
    )*};
}

named! {
    get_entry => GetEntryRequest;
    get_entry_revision => GetEntryRevisionRequest;
    delete_entry => DeleteEntryRequest;
    get_installation => GetInstallationRequest;
    delete_installation => DeleteInstallationRequest;
    get_gateway => GetGatewayRequest;
    delete_gateway => DeleteGatewayRequest;
    get_agent => GetAgentRequest;
    delete_agent => DeleteAgentRequest;
    get_tool_assignment => GetToolAssignmentRequest;
    delete_tool_assignment => DeleteToolAssignmentRequest;
    get_team => GetTeamRequest;
    delete_team => DeleteTeamRequest;
    get_user => GetUserRequest;
    reactivate_user => ReactivateUserRequest;
    get_gateway_token => GetGatewayTokenRequest;
    revoke_gateway_token => RevokeGatewayTokenRequest;
}

/// Requests that create a resource with a slug, and those that change the fields of a mask.
macro_rules! written {
    ($($create:ident, $update:ident => $resource:ident, $creation:ident, $change:ident, $field:ident, $id:ident;)*) => {$(
        pub fn $create(slug: &str, resource: $resource) -> $creation {
            $creation {
                $id: slug.to_owned(),
                $field: Some(resource),
                ..Default::default()
            }
        }

        pub fn $update(resource: $resource, paths: &[&str]) -> $change {
            $change {
                $field: Some(resource),
                update_mask: mask(paths),
            }
        }
    )*};
}

written! {
    create_entry, update_entry => Entry, CreateEntryRequest, UpdateEntryRequest, entry, entry_id;
    create_gateway, update_gateway => Gateway, CreateGatewayRequest, UpdateGatewayRequest, gateway, gateway_id;
    create_agent, update_agent => Agent, CreateAgentRequest, UpdateAgentRequest, agent, agent_id;
    create_team, update_team => Team, CreateTeamRequest, UpdateTeamRequest, team, team_id;
}

pub fn update_installation(installation: Installation, paths: &[&str]) -> UpdateInstallationRequest {
    UpdateInstallationRequest {
        installation: Some(installation),
        update_mask: mask(paths),
    }
}

/// Adds `users/{user}`.
pub fn add_team_member(team: &str, user: &str) -> AddTeamMemberRequest {
    AddTeamMemberRequest {
        team: team.to_owned(),
        member: Some(add_team_member_request::Member::User(user.to_owned())),
    }
}

/// Removes `users/{user}`.
pub fn remove_team_member(team: &str, user: &str) -> RemoveTeamMemberRequest {
    RemoveTeamMemberRequest {
        team: team.to_owned(),
        user: user.to_owned(),
    }
}

/// Deactivates `users/{user}`.
pub fn deactivate_user(name: &str) -> DeactivateUserRequest {
    DeactivateUserRequest {
        user: Some(deactivate_user_request::User::Name(name.to_owned())),
    }
}
