//! Teams and users over gRPC, on both engines; and what their lists show to whom.

#[path = "support/acting.rs"]
mod acting;
mod support;

use std::time::Duration;

use acting::*;
use contracts::registry::*;
use service_kit::Workload;
use support::{watcher::Watcher, *};
use tonic::{Code, Response};

on_both_engines!(
    teams_take_people_in_by_name_group_and_issuer,
    teams_are_curated_by_admins,
    teams_in_use_stay,
    users_are_deactivated_and_reactivated,
    teams_change_by_mask,
    lists_page_through_what_is_ones_own,
    users_are_found_by_email_in_any_case,
    members_are_watched_one_by_one,
    a_program_has_teams_and_nothing_of_its_own,
);

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
    add_team(
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
    let team = add_team(
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
    assert_eq!((team.display_name.as_str(), &team.mappings[..]), ("", &[ops][..]));
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
    let remove = remove_team_member("teams/ops", &carol.user);
    admin.teams().remove_team_member(remove.clone()).await.unwrap();
    admin.teams().remove_team_member(remove).await.unwrap();
    assert_eq!(me(&carol).await.teams, ["teams/everyone"]);
}

async fn teams_are_curated_by_admins(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let id = "5a8c2f0e-6f5c-4d07-9c38-5a1f6f6d2a10";
    let team = add_team(&admin, "ops", Team::default(), id).await.unwrap();
    assert_eq!(add_team(&admin, "ops", Team::default(), id).await.unwrap(), team);
    let refused = add_team(&admin, "other", Team::default(), id).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned())
    );
    let refused = add_team(&admin, "ops", Team::default(), "").await.unwrap_err();
    assert_eq!(reason(&refused), (Code::AlreadyExists, "ALREADY_EXISTS".to_owned()));
    let refused = add_team(&alice, "mine", Team::default(), "").await.unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
    );
    let mappings = vec![TeamMapping::default()];
    let refused = add_team(
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
    let request = update_team(change, &["display_name"]);
    let changed = admin.teams().update_team(request.clone()).await.unwrap().into_inner();
    assert_eq!(changed.display_name, "Operations");
    let refused = admin.teams().update_team(request).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::Aborted, "ETAG_MISMATCH".to_owned()));
    for slug in ["a", "b", "c"] {
        add_team(&admin, slug, Team::default(), "").await.unwrap();
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
    let request = delete_team(&team.name);
    let refused = admin.teams().delete_team(request).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::FailedPrecondition, "TEAM_IN_USE".to_owned()));
    let empty = admin.team("empty", true, &[&alice]).await;
    let request = DeleteTeamRequest {
        name: empty.name.clone(),
        etag: empty.etag,
    };
    let refused = alice.teams().delete_team(delete_team(&empty.name)).await;
    assert_eq!(
        reason(&refused.unwrap_err()),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
    );
    admin.teams().delete_team(request).await.unwrap();
    let refused = admin.teams().get_team(get_team(&empty.name)).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned()));
}

async fn users_are_deactivated_and_reactivated(stack: Stack) {
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
    let refused = alice.users().get_user(get_user(&admin.user)).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned()));
    let request = deactivate_user(&alice.user);
    let shut_out = admin.users().deactivate_user(request).await.unwrap().into_inner();
    assert!(shut_out.deactivate_time.is_some());
    let refused = alice
        .entries()
        .list_entries(ListEntriesRequest::default())
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), (Code::Unauthenticated, "USER_DEACTIVATED".to_owned()));
    // Who was never seen here is shut out all the same, and before they ever come.
    let eve = stack.person("eve");
    let request = DeactivateUserRequest {
        user: Some(deactivate_user_request::User::Identity(UserIdentity {
            issuer: shut_out.issuer.clone(),
            subject: "eve".to_owned(),
        })),
    };
    let out = admin.users().deactivate_user(request).await.unwrap().into_inner();
    assert_eq!(
        (out.name.as_str(), out.deactivate_time.is_some()),
        (eve.user.as_str(), true)
    );
    let refused = eve
        .entries()
        .list_entries(ListEntriesRequest::default())
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), (Code::Unauthenticated, "USER_DEACTIVATED".to_owned()));
    let refused = admin
        .users()
        .deactivate_user(DeactivateUserRequest::default())
        .await
        .unwrap_err();
    assert_eq!(fields(&refused), ["user"]);
    let request = reactivate_user(&alice.user);
    let back = admin.users().reactivate_user(request).await.unwrap().into_inner();
    assert!(back.deactivate_time.is_none());
    alice
        .entries()
        .list_entries(ListEntriesRequest::default())
        .await
        .unwrap();
}

async fn teams_change_by_mask(stack: Stack) {
    let admin = stack.admin();
    let mapping = TeamMapping {
        issuer: "https://idp.example".to_owned(),
        selector: Some(team_mapping::Selector::Group("ops".to_owned())),
    };
    let team = Team {
        mappings: vec![mapping.clone(), mapping],
        members_manage_installations: Some(true),
        ..Team::default()
    };
    let made = add_team(&admin, "ops", team, "").await.unwrap();
    assert_eq!(made.mappings.len(), 2, "to name a group twice is no harm");
    let update = |team: Team, update_mask| {
        let mut client = admin.teams();
        async move {
            let request = UpdateTeamRequest {
                team: Some(team),
                update_mask,
            };
            client.update_team(request).await.map(Response::into_inner)
        }
    };
    let change = Team {
        name: made.name.clone(),
        display_name: "Operations".to_owned(),
        ..Team::default()
    };
    let set = update(change.clone(), None).await.unwrap();
    assert_eq!(
        (
            set.display_name.as_str(),
            &set.mappings,
            set.members_manage_installations()
        ),
        ("Operations", &made.mappings, true),
        "without a mask, what is not set stays"
    );
    assert_eq!(
        update(change.clone(), None).await.unwrap(),
        set,
        "what changes nothing writes nothing"
    );
    let bare = Team {
        name: made.name.clone(),
        ..Team::default()
    };
    let all = update(bare, mask(&["*"])).await.unwrap();
    assert_eq!(
        (
            all.display_name.as_str(),
            all.mappings.len(),
            all.members_manage_installations()
        ),
        ("", 0, false)
    );
    // A right that is taken away is set, to false.
    for manage in [true, false] {
        let right = Team {
            name: made.name.clone(),
            members_manage_installations: Some(manage),
            ..Team::default()
        };
        let changed = update(right, None).await.unwrap();
        assert_eq!(changed.members_manage_installations, Some(manage));
    }
    let refused = update(change, mask(&["uid"])).await.unwrap_err();
    assert_eq!(fields(&refused), ["update_mask.paths[0]"]);
}

/// All pages of a list, each of at most `size`.
macro_rules! pages {
    ($size:expr, $client:expr, $list:ident, $items:ident, $request:expr) => {{
        let (mut items, mut request, size) = (Vec::new(), $request, $size);
        request.page_size = size;
        loop {
            let page = $client.$list(request.clone()).await.unwrap().into_inner();
            assert!(page.$items.len() <= usize::try_from(size).unwrap());
            assert!(page.next_page_token.is_empty() || !page.$items.is_empty());
            items.extend(page.$items);
            if page.next_page_token.is_empty() {
                break items;
            }
            request.page_token = page.next_page_token;
        }
    }};
}

async fn lists_page_through_what_is_ones_own(stack: Stack) {
    let (admin, alice, bob) = (stack.admin(), stack.person("alice"), stack.person("bob"));
    let (mut all, mut hers) = (Vec::new(), Vec::new());
    let (mut all_tokens, mut her_tokens) = (Vec::new(), Vec::new());
    for index in 0..6 {
        stack.clock.advance(Duration::from_millis(1));
        // She belongs to each second team, and manages what each second of those has.
        let members: &[&Person] = if index % 2 == 0 { &[&bob, &alice] } else { &[&bob] };
        let team = admin.team(&format!("t{index}"), index % 4 == 0, members).await;
        let of_team = Some(gateway_token::Subject::Team(team.name.clone()));
        let token = make_token(&admin, of_team, "").await.unwrap().gateway_token.unwrap();
        stack.clock.advance(Duration::from_millis(1));
        let own = make_token(&alice, None, "").await.unwrap().gateway_token.unwrap();
        stack.clock.advance(Duration::from_millis(1));
        make_token(&bob, None, "").await.unwrap();
        all.push(team.name.clone());
        if index % 2 == 0 {
            hers.push(team.name);
        }
        all_tokens.push(token.name.clone());
        if index % 4 == 0 {
            her_tokens.push(token.name);
        }
        her_tokens.push(own.name);
    }
    for size in [1, 2, 5, 50] {
        let teams = |person: Person| async move {
            let teams = pages!(size, person.teams(), list_teams, teams, ListTeamsRequest::default());
            teams.into_iter().map(|team| team.name).collect::<Vec<_>>()
        };
        assert_eq!(teams(admin.clone()).await, all);
        assert_eq!(teams(bob.clone()).await, all);
        assert_eq!(teams(alice.clone()).await, hers);
        assert_eq!(teams(stack.person("carol")).await, [""; 0]);
        let tokens = |person: Person| async move {
            let request = ListGatewayTokensRequest::default();
            let tokens = pages!(
                size,
                person.gateway_tokens(),
                list_gateway_tokens,
                gateway_tokens,
                request
            );
            tokens.into_iter().map(|token| token.name).collect::<Vec<_>>()
        };
        assert_eq!(tokens(alice.clone()).await, her_tokens);
        assert_eq!(tokens(admin.clone()).await.len(), 18);
        assert_eq!(tokens(stack.person("carol")).await, [""; 0]);
        let request = ListTeamMembersRequest {
            parent: "teams/t0".to_owned(),
            ..Default::default()
        };
        let members = pages!(size, alice.teams(), list_team_members, team_members, request);
        let mut members: Vec<_> = members.into_iter().map(|member| member.user).collect();
        members.sort();
        let mut expected = [&alice, &bob].map(|person| person.user.clone());
        expected.sort();
        assert_eq!(members, expected);
        let users = pages!(size, admin.users(), list_users, users, ListUsersRequest::default());
        let mut users: Vec<_> = users.into_iter().map(|user| user.name).collect();
        users.sort();
        let mut expected = [&admin, &alice, &bob, &stack.person("carol")].map(|person| person.user.clone());
        expected.sort();
        assert_eq!(users, expected);
    }
}

async fn users_are_found_by_email_in_any_case(stack: Stack) {
    let (admin, person) = (stack.admin(), stack.person("Özil"));
    me(&person).await;
    me(&stack.person("ozil")).await;
    let request = ListUsersRequest {
        email: "öZIL@EXAMPLE.com".to_owned(),
        ..ListUsersRequest::default()
    };
    let users = admin.users().list_users(request).await.unwrap().into_inner().users;
    let users: Vec<_> = users
        .iter()
        .map(|user| (user.name.as_str(), user.email.as_str()))
        .collect();
    assert_eq!(users, [(person.user.as_str(), "Özil@example.com")]);
}

async fn a_program_has_teams_and_nothing_of_its_own(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    let mapping = TeamMapping {
        issuer: stack.issuer.issuer().to_owned(),
        selector: Some(team_mapping::Selector::Group("robots".to_owned())),
    };
    let team = Team {
        mappings: vec![mapping],
        members_manage_installations: Some(true),
        ..Team::default()
    };
    add_team(&admin, "robots", team, "").await.unwrap();
    let robot = stack.program("robot", &["robots"]);
    let known = me(&robot).await;
    assert!(known.machine);
    assert_eq!(known.teams, ["teams/robots"]);
    let refused = robot.install(&entry.name, None, &[]).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
    );
    assert!(refused.message().contains("a program has no personal installations"));
    robot.install(&entry.name, Some("teams/robots"), &[]).await.unwrap();

    // What it is follows its latest token.
    let person = stack.grouped("robot", &[]);
    assert!(!me(&person).await.machine);
    me(&robot).await;
    let listed = admin.users().list_users(ListUsersRequest::default()).await.unwrap();
    let users = listed.into_inner().users;
    let machines: Vec<&str> = users
        .iter()
        .filter(|user| user.machine)
        .map(|user| user.name.as_str())
        .collect();
    assert_eq!(
        (users.len(), machines.as_slice()),
        (2, [known.name.as_str()].as_slice())
    );
}

async fn members_are_watched_one_by_one(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    me(&alice).await;
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[]).await;
    watcher.snapshot().await;
    let mut clients = (admin.teams(), admin.users());
    let team = add_team(&admin, "ops", Team::default(), "");
    let ((_, changes), team) = tokio::join!(watcher.acked_changes(), team);
    let team = team.unwrap();
    let one = |change| vec![Change { change: Some(change) }];
    let put = |key: &str, object| {
        let object = WatchedObject {
            key: key.to_owned(),
            object: Some(object),
        };
        one(change::Change::Put(object))
    };
    let removed = |kind: ObjectKind, key: &str| {
        let removal = Removal {
            kind: kind.into(),
            key: key.to_owned(),
        };
        one(change::Change::Remove(removal))
    };
    assert_eq!(changes, put(&team.uid, watched_object::Object::Team(team.clone())));

    let uid = alice.user.trim_start_matches("users/");
    let key = format!("{}/{uid}", team.uid);
    let add = || add_team_member(&team.name, &alice.user);
    let ((_, changes), added) = tokio::join!(watcher.acked_changes(), clients.0.add_team_member(add()));
    added.unwrap();
    let member = WatchedTeamMember {
        team_uid: team.uid.clone(),
        user: alice.user.clone(),
    };
    assert_eq!(changes, put(&key, watched_object::Object::TeamMember(member)));
    let remove = remove_team_member(&team.name, &alice.user);
    let ((_, changes), gone) = tokio::join!(watcher.acked_changes(), clients.0.remove_team_member(remove));
    gone.unwrap();
    assert_eq!(changes, removed(ObjectKind::TeamMember, &key));

    let (_, added) = tokio::join!(watcher.acked_changes(), clients.0.add_team_member(add()));
    added.unwrap();
    let delete = delete_team(&team.name);
    let ((_, changes), gone) = tokio::join!(watcher.acked_changes(), clients.0.delete_team(delete));
    gone.unwrap();
    assert_eq!(
        changes,
        removed(ObjectKind::Team, &team.uid),
        "its members go without a word"
    );

    let name = alice.user.clone();
    let request = deactivate_user(&name);
    let ((_, changes), done) = tokio::join!(watcher.acked_changes(), clients.1.deactivate_user(request));
    done.unwrap();
    let user = DeactivatedUser { user: name.clone() };
    assert_eq!(changes, put(uid, watched_object::Object::DeactivatedUser(user)));
    let request = ReactivateUserRequest { name };
    let ((_, changes), done) = tokio::join!(watcher.acked_changes(), clients.1.reactivate_user(request));
    done.unwrap();
    assert_eq!(changes, removed(ObjectKind::DeactivatedUser, uid));
}
