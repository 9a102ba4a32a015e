//! What tests of people, teams and tokens share.

#![allow(dead_code, reason = "each test uses its part of it")]

use contracts::registry::*;
use tonic::{Response, Status};

use super::support::*;

pub(crate) async fn me(person: &Person) -> User {
    let request = get_user("users/me");
    person.users().get_user(request).await.unwrap().into_inner()
}

pub(crate) async fn add_team(admin: &Person, slug: &str, team: Team, request_id: &str) -> Result<Team, Status> {
    let request = CreateTeamRequest {
        team_id: slug.to_owned(),
        team: Some(team),
        request_id: request_id.to_owned(),
    };
    admin.teams().create_team(request).await.map(Response::into_inner)
}

pub(crate) async fn make_token(
    person: &Person,
    subject: Option<gateway_token::Subject>,
    request_id: &str,
) -> Result<CreateGatewayTokenResponse, Status> {
    let request = CreateGatewayTokenRequest {
        gateway_token: Some(GatewayToken {
            display_name: "ci".to_owned(),
            subject,
            ..GatewayToken::default()
        }),
        request_id: request_id.to_owned(),
    };
    person
        .gateway_tokens()
        .create_gateway_token(request)
        .await
        .map(Response::into_inner)
}
