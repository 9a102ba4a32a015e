//! What a retry is answered: the first answer, once what it speaks of is in force; on both engines.

#[path = "support/acting.rs"]
mod acting;
mod support;

use std::time::Duration;

use acting::*;
use contracts::registry::*;
use service_kit::Workload;
use support::{
    watcher::{Watcher, lagging},
    *,
};
use tonic::{Code, Response};

on_both_engines!(retries_return_the_first_answer, retries_wait_for_what_they_speak_of,);

async fn retries_return_the_first_answer(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let id = service_kit::random::uuid().to_string();
    let first = add_team(&admin, "ops", Team::default(), &id).await.unwrap();
    let change = UpdateTeamRequest {
        team: Some(Team {
            name: first.name.clone(),
            members_manage_installations: Some(true),
            ..Team::default()
        }),
        update_mask: None,
    };
    admin.teams().update_team(change).await.unwrap();
    let again = add_team(&admin, "ops", Team::default(), &id).await.unwrap();
    assert_eq!(again, first, "a replay returns the first answer");

    // A retry of somebody who has left the team does not show what the team has.
    me(&alice).await;
    let add = add_team_member(&first.name, &alice.user);
    admin.teams().add_team_member(add).await.unwrap();
    let of_team = Some(gateway_token::Subject::Team(first.name.clone()));
    let made = make_token(&alice, of_team.clone(), &id).await.unwrap();
    let token = made.gateway_token.unwrap();
    let revoke = revoke_gateway_token(&token.name);
    admin.gateway_tokens().revoke_gateway_token(revoke).await.unwrap();
    let again = make_token(&alice, of_team.clone(), &id).await.unwrap();
    assert_eq!((again.gateway_token.as_ref(), again.token.as_str()), (Some(&token), ""));
    let remove = remove_team_member(&first.name, &alice.user);
    admin.teams().remove_team_member(remove).await.unwrap();
    let hidden = make_token(&alice, of_team, &id).await.unwrap_err();
    assert_eq!(reason(&hidden), (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned()));

    let request = delete_team(&first.name);
    admin.teams().delete_team(request).await.unwrap();
    add_team(&admin, "ops", Team::default(), "").await.unwrap();
    let gone = add_team(&admin, "ops", Team::default(), &id).await.unwrap_err();
    assert_eq!(reason(&gone), (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned()));
}

/// Whether an answer says that somebody has not put it in force.
fn lags<T>(response: &Response<T>) -> bool {
    !lagging(response).is_empty()
}

async fn retries_wait_for_what_they_speak_of(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    me(&alice).await;
    let team = add_team(&admin, "ops", Team::default(), "").await.unwrap();
    let long_ago = make_token(&alice, None, "").await.unwrap().gateway_token.unwrap();
    let just_now = make_token(&alice, None, "").await.unwrap().gateway_token.unwrap();
    let revoke = |name: &str| {
        let (mut client, name) = (admin.gateway_tokens(), name.to_owned());
        async move {
            client
                .revoke_gateway_token(RevokeGatewayTokenRequest { name })
                .await
                .unwrap()
        }
    };
    let member = || add_team_member(&team.name, &alice.user);
    let no_member = || remove_team_member(&team.name, &alice.user);
    let user = || deactivate_user(&alice.user);
    let id = service_kit::random::uuid().to_string();
    let gateway = || CreateGatewayRequest {
        gateway_id: "main".to_owned(),
        gateway: Some(Gateway::default()),
        request_id: id.clone(),
    };
    let named = || UpdateTeamRequest {
        team: Some(Team {
            name: team.name.clone(),
            display_name: "Operations".to_owned(),
            ..Team::default()
        }),
        update_mask: None,
    };
    assert!(!lags(&revoke(&long_ago.name).await));
    let mut silent = Watcher::start(&stack, Workload::Gateway, &[]).await;
    silent.snapshot().await;
    let (mut teams, mut more_teams, mut users) = (admin.teams(), admin.teams(), admin.users());
    let mut gateways = admin.gateways();
    for attempt in ["the first call", "its retry"] {
        let answers = tokio::join!(
            revoke(&just_now.name),
            teams.add_team_member(member()),
            users.deactivate_user(user()),
            gateways.create_gateway(gateway()),
            more_teams.update_team(named()),
        );
        let all = [
            lags(&answers.0),
            lags(&answers.1.unwrap()),
            lags(&answers.2.unwrap()),
            lags(&answers.3.unwrap()),
            lags(&answers.4.unwrap()),
        ];
        assert_eq!(all, [true; 5], "{attempt} says that it is in force, which it is not");
    }
    for attempt in ["the first call", "its retry"] {
        let answer = teams.remove_team_member(no_member()).await.unwrap();
        assert!(lags(&answer), "{attempt} says that it is in force, which it is not");
    }
    let again = tokio::time::timeout(Duration::from_secs(1), revoke(&long_ago.name)).await;
    assert!(!lags(&again.expect("it is in force: nobody has to wait")));
}
