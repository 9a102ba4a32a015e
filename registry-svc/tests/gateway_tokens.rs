//! Gateway tokens over gRPC, on both engines.

mod support;

use contracts::registry::*;
use support::*;
use tonic::Code;

on_both_engines!(
    tokens_show_their_text_once,
    tokens_belong_to_somebody,
    tokens_end_with_what_they_are_limited_to,
    programs_have_none,
);

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
    let revoke = revoke_gateway_token(&name);
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
        .get_gateway_token(get_gateway_token("gatewayTokens/x"))
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
    let request = delete_gateway(&gateway.name);
    admin.gateways().delete_gateway(request).await.unwrap();
    let read = alice
        .gateway_tokens()
        .get_gateway_token(get_gateway_token(&token.name))
        .await
        .unwrap();
    assert!(read.into_inner().revoke_time.is_some());
}

/// Their own tokens last for minutes; whoever steals one must not get another that lasts.
async fn programs_have_none(stack: Stack) {
    let robots = TeamMapping {
        issuer: stack.issuer.issuer().to_owned(),
        selector: Some(team_mapping::Selector::Group("robots".to_owned())),
    };
    let team = Team {
        mappings: vec![robots],
        members_manage_installations: Some(true),
        ..Team::default()
    };
    let request = create_team("robots", team);
    stack.admin().teams().create_team(request).await.unwrap();
    let robot = stack.program("robot", &["robots"]);
    let soon = service_kit::Clock::System.now() + std::time::Duration::from_secs(60);
    for (team, expires) in [(None, None), (None, Some(soon)), (Some("teams/robots"), None)] {
        let request = CreateGatewayTokenRequest {
            gateway_token: Some(GatewayToken {
                display_name: "ci".to_owned(),
                subject: team.map(|team| gateway_token::Subject::Team(team.to_owned())),
                expire_time: expires.map(Into::into),
                ..GatewayToken::default()
            }),
            ..Default::default()
        };
        let refused = robot.gateway_tokens().create_gateway_token(request).await.unwrap_err();
        assert_eq!(
            reason(&refused),
            (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
        );
        assert!(refused.message().contains("a program has no gateway tokens"));
    }
}

/// However many they are, no transaction lasts as long as there are tokens; and none of them works at a later gateway of that name.
async fn tokens_end_with_what_they_are_limited_to(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    admin.gateway("default", Gateway::default()).await.unwrap();
    for index in 0..120 {
        let request = CreateGatewayTokenRequest {
            gateway_token: Some(GatewayToken {
                display_name: format!("token {index}"),
                consumers: vec!["gateways/default".to_owned()],
                ..GatewayToken::default()
            }),
            ..Default::default()
        };
        alice.gateway_tokens().create_gateway_token(request).await.unwrap();
    }
    let request = delete_gateway("gateways/default");
    let deleted = admin.gateways().delete_gateway(request).await.unwrap().into_inner();
    let refused = admin.gateway("default", Gateway::default()).await;
    if let Err(refused) = &refused {
        assert_eq!(reason(refused), (Code::Unavailable, "BEING_DELETED".to_owned()));
    }
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut made = refused.ok();
    while made.is_none() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        made = admin.gateway("default", Gateway::default()).await.ok();
    }
    assert_ne!(made.expect("the name is free again").uid, deleted.uid);
    let list = ListGatewayTokensRequest {
        page_size: 500,
        ..Default::default()
    };
    let tokens = alice
        .gateway_tokens()
        .list_gateway_tokens(list)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(tokens.gateway_tokens.len(), 120);
    let still_works = |token: &&GatewayToken| token.revoke_time.is_none();
    assert_eq!(tokens.gateway_tokens.iter().find(still_works), None);
}
