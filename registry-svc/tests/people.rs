//! Teams, users and gateway tokens over gRPC, on both engines.

mod support;

use contracts::registry::*;
use support::*;
use tonic::Code;

on_both_engines!(
    teams_take_people_in_by_name_group_and_issuer,
    teams_are_curated_by_admins,
    teams_in_use_stay,
    users_are_shut_out_and_let_in_again,
    tokens_show_their_text_once,
    tokens_belong_to_somebody,
);

async fn me(person: &Person) -> User {
    let request = GetUserRequest {
        name: "users/me".to_owned(),
    };
    person.users().get_user(request).await.unwrap().into_inner()
}

async fn create_team(admin: &Person, slug: &str, team: Team, request_id: &str) -> Result<Team, tonic::Status> {
    let request = CreateTeamRequest {
        team_id: slug.to_owned(),
        team: Some(team),
        request_id: request_id.to_owned(),
    };
    admin
        .teams()
        .create_team(request)
        .await
        .map(tonic::Response::into_inner)
}

async fn teams_take_people_in_by_name_group_and_issuer(stack: Stack) {
    let admin = stack.admin();
    let (alice, bob) = (stack.person("alice"), stack.grouped("bob", &["ops"]));
    let issuer = stack.issuer.issuer().to_owned();
    let mapping = |selector| TeamMapping {
        issuer: issuer.clone(),
        selector: Some(selector),
    };
    let everyone = mapping(team_mapping::Selector::WholeIssuer(WholeIssuer {}));
    let ops = mapping(team_mapping::Selector::Group("ops".to_owned()));
    create_team(
        &admin,
        "everyone",
        Team {
            mappings: vec![everyone],
            ..Team::default()
        },
        "",
    )
    .await
    .unwrap();
    let team = create_team(
        &admin,
        "ops",
        Team {
            mappings: vec![ops.clone()],
            ..Team::default()
        },
        "",
    )
    .await
    .unwrap();
    assert_eq!((team.display_name.as_str(), &team.mappings[..]), ("ops", &[ops][..]));
    let add = AddTeamMemberRequest {
        team: "teams/ops".to_owned(),
        member: Some(add_team_member_request::Member::Identity(UserIdentity {
            issuer: issuer.clone(),
            subject: "carol".to_owned(),
        })),
    };
    let added = admin.teams().add_team_member(add.clone()).await.unwrap().into_inner();
    assert_eq!(admin.teams().add_team_member(add).await.unwrap().into_inner(), added);
    let carol = stack.person("carol");
    assert_eq!(added.user, carol.user);
    assert_eq!(me(&alice).await.teams, ["teams/everyone"]);
    assert_eq!(me(&bob).await.teams, ["teams/everyone", "teams/ops"]);
    assert_eq!(me(&carol).await.teams, ["teams/everyone", "teams/ops"]);
    let list = ListTeamMembersRequest {
        parent: "teams/ops".to_owned(),
        ..Default::default()
    };
    let members = bob
        .teams()
        .list_team_members(list.clone())
        .await
        .unwrap()
        .into_inner()
        .team_members;
    assert_eq!(
        members.iter().map(|member| member.user.as_str()).collect::<Vec<_>>(),
        [carol.user.as_str()]
    );
    let refused = alice.teams().list_team_members(list).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned()));
    let remove = RemoveTeamMemberRequest {
        team: "teams/ops".to_owned(),
        user: carol.user.clone(),
    };
    admin.teams().remove_team_member(remove.clone()).await.unwrap();
    admin.teams().remove_team_member(remove).await.unwrap();
    assert_eq!(me(&carol).await.teams, ["teams/everyone"]);
}

async fn teams_are_curated_by_admins(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let id = "5a8c2f0e-6f5c-4d07-9c38-5a1f6f6d2a10";
    let team = create_team(&admin, "ops", Team::default(), id).await.unwrap();
    assert_eq!(create_team(&admin, "ops", Team::default(), id).await.unwrap(), team);
    let refused = create_team(&admin, "other", Team::default(), id).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned())
    );
    let refused = create_team(&admin, "ops", Team::default(), "").await.unwrap_err();
    assert_eq!(reason(&refused), (Code::AlreadyExists, "ALREADY_EXISTS".to_owned()));
    let refused = create_team(&alice, "mine", Team::default(), "").await.unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
    );
    let mappings = vec![TeamMapping::default()];
    let refused = create_team(
        &admin,
        "No",
        Team {
            mappings,
            ..Team::default()
        },
        "x",
    )
    .await
    .unwrap_err();
    assert_eq!(
        fields(&refused),
        [
            "request_id",
            "team_id",
            "team.mappings[0].issuer",
            "team.mappings[0].selector"
        ]
    );
    let change = Team {
        display_name: "Operations".to_owned(),
        ..team.clone()
    };
    let request = UpdateTeamRequest {
        team: Some(change),
        update_mask: mask(&["display_name"]),
    };
    let changed = admin.teams().update_team(request.clone()).await.unwrap().into_inner();
    assert_eq!(changed.display_name, "Operations");
    let refused = admin.teams().update_team(request).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::Aborted, "ETAG_MISMATCH".to_owned()));
    for slug in ["a", "b", "c"] {
        create_team(&admin, slug, Team::default(), "").await.unwrap();
    }
    let mut names = Vec::new();
    let mut request = ListTeamsRequest {
        page_size: 3,
        ..Default::default()
    };
    loop {
        let page = admin.teams().list_teams(request.clone()).await.unwrap().into_inner();
        names.extend(page.teams.into_iter().map(|team| team.name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    names.sort();
    assert_eq!(names, ["teams/a", "teams/b", "teams/c", "teams/ops"]);
    let refused = alice.teams().list_teams(request).await.map(tonic::Response::into_inner);
    // A page token of somebody else's list opens nothing.
    assert_eq!(
        reason(&refused.unwrap_err()),
        (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned())
    );
    assert!(
        alice
            .teams()
            .list_teams(ListTeamsRequest::default())
            .await
            .unwrap()
            .into_inner()
            .teams
            .is_empty()
    );
}

async fn teams_in_use_stay(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let team = admin.team("ops", true, &[&alice]).await;
    let entry = admin.approved("time", remote()).await;
    alice.install(&entry.name, Some(&team.name), &[]).await.unwrap();
    let request = DeleteTeamRequest {
        name: team.name.clone(),
        etag: String::new(),
    };
    let refused = admin.teams().delete_team(request).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::FailedPrecondition, "TEAM_IN_USE".to_owned()));
    let empty = admin.team("empty", true, &[&alice]).await;
    let request = DeleteTeamRequest {
        name: empty.name.clone(),
        etag: empty.etag,
    };
    let refused = alice
        .teams()
        .delete_team(DeleteTeamRequest {
            name: empty.name.clone(),
            ..Default::default()
        })
        .await;
    assert_eq!(
        reason(&refused.unwrap_err()),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
    );
    admin.teams().delete_team(request).await.unwrap();
    let refused = admin
        .teams()
        .get_team(GetTeamRequest { name: empty.name })
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned()));
}

async fn users_are_shut_out_and_let_in_again(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let seen = me(&alice).await;
    assert_eq!(
        (seen.name.as_str(), seen.email.as_str(), seen.admin),
        (alice.user.as_str(), "alice@example.com", false)
    );
    assert!(me(&admin).await.admin);
    let list = ListUsersRequest {
        email: "ALICE@example.com".to_owned(),
        ..Default::default()
    };
    let users = admin.users().list_users(list.clone()).await.unwrap().into_inner().users;
    assert_eq!(users.len(), 1);
    let refused = alice.users().list_users(list).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
    );
    let refused = alice
        .users()
        .get_user(GetUserRequest {
            name: admin.user.clone(),
        })
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned()));
    let request = DeactivateUserRequest {
        name: alice.user.clone(),
    };
    let shut_out = admin.users().deactivate_user(request).await.unwrap().into_inner();
    assert!(shut_out.deactivate_time.is_some());
    let refused = alice
        .entries()
        .list_entries(ListEntriesRequest::default())
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), (Code::Unauthenticated, "USER_DEACTIVATED".to_owned()));
    let request = ReactivateUserRequest {
        name: alice.user.clone(),
    };
    let back = admin.users().reactivate_user(request).await.unwrap().into_inner();
    assert!(back.deactivate_time.is_none());
    alice
        .entries()
        .list_entries(ListEntriesRequest::default())
        .await
        .unwrap();
}

async fn tokens_show_their_text_once(stack: Stack) {
    let alice = stack.person("alice");
    let token = GatewayToken {
        display_name: "my laptop".to_owned(),
        ..GatewayToken::default()
    };
    let request = CreateGatewayTokenRequest {
        gateway_token: Some(token),
        request_id: "0c0bb3f2-76e2-4a9f-8b54-8d1cf4d7a3b1".to_owned(),
    };
    let made = alice
        .gateway_tokens()
        .create_gateway_token(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(made.token.starts_with("cht_") && made.token.len() == 56);
    let again = alice
        .gateway_tokens()
        .create_gateway_token(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((again.token.as_str(), &again.gateway_token), ("", &made.gateway_token));
    let name = made.gateway_token.unwrap().name;
    let revoke = RevokeGatewayTokenRequest { name: name.clone() };
    let refused = stack
        .person("bob")
        .gateway_tokens()
        .revoke_gateway_token(revoke.clone())
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned()));
    let revoked = alice
        .gateway_tokens()
        .revoke_gateway_token(revoke.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(revoked.revoke_time.is_some());
    assert_eq!(
        alice
            .gateway_tokens()
            .revoke_gateway_token(revoke)
            .await
            .unwrap()
            .into_inner(),
        revoked
    );
    let refused = alice
        .gateway_tokens()
        .get_gateway_token(GetGatewayTokenRequest {
            name: "gatewayTokens/x".to_owned(),
        })
        .await;
    assert_eq!(
        reason(&refused.unwrap_err()),
        (Code::InvalidArgument, "INVALID_FIELDS".to_owned())
    );
}

async fn tokens_belong_to_somebody(stack: Stack) {
    let (admin, alice, bob) = (stack.admin(), stack.person("alice"), stack.person("bob"));
    let team = admin.team("ops", true, &[&alice]).await;
    let gateway = admin.gateway("main", Gateway::default()).await.unwrap();
    let make = |subject, consumers: &[&str]| CreateGatewayTokenRequest {
        gateway_token: Some(GatewayToken {
            display_name: "ci".to_owned(),
            subject: Some(subject),
            consumers: consumers.iter().map(|&name| name.to_owned()).collect(),
            ..GatewayToken::default()
        }),
        request_id: String::new(),
    };
    let of_team = gateway_token::Subject::Team(team.name.clone());
    let made = alice
        .gateway_tokens()
        .create_gateway_token(make(of_team.clone(), &[&gateway.name]))
        .await
        .unwrap();
    let token = made.into_inner().gateway_token.unwrap();
    assert_eq!(
        (token.subject.clone().unwrap(), &token.consumers[..]),
        (of_team.clone(), &[gateway.name.clone()][..])
    );
    let refused = bob
        .gateway_tokens()
        .create_gateway_token(make(of_team.clone(), &[]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let refused = alice
        .gateway_tokens()
        .create_gateway_token(make(of_team, &["gateways/none"]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let of_bob = gateway_token::Subject::User(bob.user.clone());
    let refused = alice
        .gateway_tokens()
        .create_gateway_token(make(of_bob, &[]))
        .await
        .unwrap_err();
    assert_eq!(fields(&refused), ["gateway_token.user"]);
    let list = ListGatewayTokensRequest::default();
    assert_eq!(
        alice
            .gateway_tokens()
            .list_gateway_tokens(list.clone())
            .await
            .unwrap()
            .into_inner()
            .gateway_tokens
            .len(),
        1
    );
    assert!(
        bob.gateway_tokens()
            .list_gateway_tokens(list)
            .await
            .unwrap()
            .into_inner()
            .gateway_tokens
            .is_empty()
    );
    // A token limited to a gateway that is deleted works nowhere.
    let request = DeleteGatewayRequest {
        name: gateway.name,
        etag: String::new(),
    };
    admin.gateways().delete_gateway(request).await.unwrap();
    let read = alice
        .gateway_tokens()
        .get_gateway_token(GetGatewayTokenRequest { name: token.name })
        .await
        .unwrap();
    assert!(read.into_inner().revoke_time.is_some());
}
