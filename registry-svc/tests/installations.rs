//! Installations over gRPC, on both engines.

mod support;

use std::time::Duration;

use contracts::registry::*;
use service_kit::Workload;
use support::*;
use tonic::Code;

on_both_engines!(
    are_made_once_for_each_owner,
    need_an_approved_entry_that_is_seen,
    check_their_values_and_take_no_secret,
    say_whose_word_their_values_are,
    belong_to_teams_that_let_their_members,
    are_seen_and_changed_by_their_owners,
    follow_their_entry_without_asking_again,
    wait_for_what_their_entry_newly_requires,
    become_ready_by_what_workloads_report,
    are_deleted_and_cleaned_up,
    expire_when_nobody_completes_them,
    go_on_while_their_entry_is_deprecated,
    survive_two_changes_at_once,
);

async fn are_made_once_for_each_owner(stack: Stack) {
    let (admin, alice, bob) = (stack.admin(), stack.person("alice"), stack.person("bob"));
    let entry = admin.approved("time", remote()).await;
    let wanted = Installation {
        entry: entry.name.clone(),
        ..Default::default()
    };
    let request = CreateInstallationRequest {
        installation: Some(wanted.clone()),
        request_id: service_kit::random::uuid().to_string(),
    };
    let first = alice
        .installations()
        .create_installation(request.clone())
        .await
        .unwrap();
    assert!(first.metadata().contains_key("chandlery-revision"));
    let first = first.into_inner();
    assert_eq!(first.scope, Some(installation::Scope::User(alice.user.clone())));
    assert_eq!(
        (first.generation, first.running_entry_revision, first.entry_uid.as_str()),
        (1, 1, entry.uid.as_str())
    );
    assert_eq!(first.state(), InstallationState::Pending);
    assert!(first.expire_time.is_some());
    let again = alice
        .installations()
        .create_installation(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first, again);
    let refused = alice.install(&entry.name, None, &[]).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::AlreadyExists, "ALREADY_EXISTS".to_owned()));
    assert!(refused.message().contains(&first.name), "{}", refused.message());
    assert_ne!(bob.install(&entry.name, None, &[]).await.unwrap().uid, first.uid);
    let for_bob = Installation {
        scope: Some(installation::Scope::User(bob.user.clone())),
        ..wanted
    };
    let request = CreateInstallationRequest {
        installation: Some(for_bob),
        request_id: String::new(),
    };
    let refused = alice.installations().create_installation(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

async fn need_an_approved_entry_that_is_seen(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    admin.created("draft", remote()).await;
    let refused = alice.install("entries/draft", None, &[]).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::FailedPrecondition, "ENTRY_NOT_APPROVED".to_owned())
    );
    let audience = visibility::Audience::Author(AuthorAudience {});
    admin
        .approved(
            "mine",
            Entry {
                visibility: Some(Visibility {
                    audience: Some(audience),
                }),
                ..remote()
            },
        )
        .await;
    for name in ["entries/mine", "entries/none"] {
        let refused = alice.install(name, None, &[]).await.unwrap_err();
        assert_eq!(reason(&refused), (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned()));
    }
    let refused = alice.install("time", None, &[]).await.unwrap_err();
    assert_eq!(fields(&refused), ["installation.entry"]);
}

async fn check_their_values_and_take_no_secret(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let entry = Entry {
        install_fields: vec![
            field("tenant", InstallFieldType::String, true),
            field("level", InstallFieldType::Number, false),
            field("token", InstallFieldType::Secret, true),
        ],
        ..remote()
    };
    admin.approved("time", entry).await;
    let values = [("level", "high"), ("token", "s3cret-value"), ("other", "x")];
    let refused = alice.install("entries/time", None, &values).await.unwrap_err();
    let expected = ["level", "other", "token", "tenant"].map(|key| format!("installation.values[{key}]"));
    assert_eq!(fields(&refused), expected);
    assert!(!format!("{refused:?}").contains("s3cret-value"));
    let made = alice
        .install("entries/time", None, &[("tenant", "acme"), ("level", "2")])
        .await
        .unwrap();
    assert_eq!(made.values, map(&[("tenant", "acme"), ("level", "2")]));

    let change = Installation {
        values: map(&[("tenant", "a\r\nb")]),
        ..made.clone()
    };
    let request = update_installation(change, &["values"]);
    let refused = alice
        .installations()
        .update_installation(request.clone())
        .await
        .unwrap_err();
    assert_eq!(fields(&refused), ["installation.values[tenant]"]);
    let change = Installation {
        values: map(&[("tenant", "corp")]),
        ..made.clone()
    };
    let request = UpdateInstallationRequest {
        installation: Some(change),
        update_mask: None,
    };
    let changed = alice
        .installations()
        .update_installation(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (changed.generation, changed.values.clone()),
        (2, map(&[("tenant", "corp")]))
    );
    let late = alice.installations().update_installation(request).await.unwrap_err();
    assert_eq!(reason(&late), (Code::Aborted, "ETAG_MISMATCH".to_owned()));
    let same = UpdateInstallationRequest {
        installation: Some(changed.clone()),
        update_mask: None,
    };
    assert_eq!(
        alice
            .installations()
            .update_installation(same)
            .await
            .unwrap()
            .into_inner(),
        changed
    );
    let other = update_installation(changed, &["scope"]);
    assert_eq!(
        fields(&alice.installations().update_installation(other).await.unwrap_err()),
        ["update_mask.paths[0]"]
    );
}

/// An admin may change a personal installation, but not so that its owner's secrets go along unasked.
async fn say_whose_word_their_values_are(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let entry = Entry {
        install_fields: vec![field("tenant", InstallFieldType::String, false)],
        ..remote()
    };
    let entry = admin.approved("time", entry).await;
    let made = alice
        .install("entries/time", None, &[("tenant", "acme")])
        .await
        .unwrap();
    let set = async |who: &Person, name: &str, values: &[(&str, &str)]| {
        let installation = Installation {
            name: name.to_owned(),
            values: map(values),
            ..Default::default()
        };
        let request = update_installation(installation, &["values"]);
        let changed = who
            .installations()
            .update_installation(request)
            .await
            .unwrap()
            .into_inner();
        (changed.generation, changed.foreign_values_generation)
    };
    assert_eq!(set(&admin, &made.name, &[("tenant", "acme")]).await, (1, 0));
    assert_eq!(set(&admin, &made.name, &[("tenant", "evil")]).await, (2, 2));
    assert_eq!(set(&admin, &made.name, &[("tenant", "worse")]).await, (3, 3));
    // The entry goes on; that changes nobody's word.
    let mut change = entry.clone();
    change
        .install_fields
        .push(field("level", InstallFieldType::Number, false));
    change.etag.clear();
    admin.update(change, &["install_fields"]).await.unwrap();
    let moved = alice.installation(&made.name).await.unwrap();
    assert_eq!((moved.running_entry_revision, moved.foreign_values_generation), (2, 3));
    let generation = moved.generation;
    assert_eq!(set(&alice, &made.name, &[("tenant", "worse")]).await, (generation, 0));
    assert_eq!(set(&admin, &made.name, &[]).await, (generation + 1, generation + 1));
    assert_eq!(
        set(&alice, &made.name, &[("tenant", "acme")]).await,
        (generation + 2, 0)
    );
    admin.team("ops", true, &[&alice]).await;
    let theirs = alice.install("entries/time", Some("teams/ops"), &[]).await.unwrap();
    assert_eq!(set(&admin, &theirs.name, &[("tenant", "x")]).await.1, 0);
}

async fn belong_to_teams_that_let_their_members(stack: Stack) {
    let (admin, alice, bob) = (stack.admin(), stack.person("alice"), stack.person("bob"));
    admin.approved("time", remote()).await;
    admin.team("ops", true, &[&alice]).await;
    admin.team("strict", false, &[&alice]).await;
    let made = alice.install("entries/time", Some("teams/ops"), &[]).await.unwrap();
    assert_eq!(made.scope, Some(installation::Scope::Team("teams/ops".to_owned())));
    let twice = admin.install("entries/time", Some("teams/ops"), &[]).await.unwrap_err();
    assert_eq!(twice.code(), Code::AlreadyExists);
    let refused = alice
        .install("entries/time", Some("teams/strict"), &[])
        .await
        .unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
    );
    assert_eq!(
        bob.install("entries/time", Some("teams/ops"), &[])
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    let strict = admin.install("entries/time", Some("teams/strict"), &[]).await.unwrap();
    assert_eq!(alice.installation(&strict.name).await.unwrap().uid, strict.uid);
    let delete = delete_installation(&strict.name);
    assert_eq!(
        alice
            .installations()
            .delete_installation(delete)
            .await
            .unwrap_err()
            .code(),
        Code::PermissionDenied
    );
    let bad = alice.install("entries/time", Some("ops"), &[]).await.unwrap_err();
    assert_eq!(fields(&bad), ["installation.team"]);
}

async fn are_seen_and_changed_by_their_owners(stack: Stack) {
    let (admin, alice, bob) = (stack.admin(), stack.person("alice"), stack.person("bob"));
    admin.approved("time", remote()).await;
    admin.approved("everything", remote()).await;
    admin.team("ops", true, &[&bob]).await;
    let hers = alice.install("entries/time", None, &[]).await.unwrap();
    stack.clock.advance(Duration::from_millis(1));
    let his = bob.install("entries/everything", None, &[]).await.unwrap();
    stack.clock.advance(Duration::from_millis(1));
    let theirs = bob.install("entries/time", Some("teams/ops"), &[]).await.unwrap();
    let list = |person: &Person, request: ListInstallationsRequest| {
        let mut client = person.installations();
        async move {
            let listed = client.list_installations(request).await.unwrap().into_inner();
            listed
                .installations
                .into_iter()
                .map(|installation| installation.uid)
                .collect::<Vec<_>>()
        }
    };
    let all = ListInstallationsRequest::default();
    let of = |request| ListInstallationsRequest {
        page_size: 1,
        ..request
    };
    assert_eq!(list(&alice, all.clone()).await, std::slice::from_ref(&hers.uid));
    assert_eq!(list(&bob, all.clone()).await, [his.uid.clone(), theirs.uid.clone()]);
    assert_eq!(
        list(&admin, all.clone()).await,
        [hers.uid.clone(), his.uid.clone(), theirs.uid.clone()]
    );
    assert_eq!(
        list(
            &admin,
            of(ListInstallationsRequest {
                team: "teams/ops".into(),
                ..all.clone()
            })
        )
        .await,
        std::slice::from_ref(&theirs.uid)
    );
    assert_eq!(
        list(
            &bob,
            of(ListInstallationsRequest {
                user: "users/me".into(),
                ..all.clone()
            })
        )
        .await,
        std::slice::from_ref(&his.uid)
    );
    let of_entry = ListInstallationsRequest {
        entry: "entries/time".into(),
        ..all.clone()
    };
    assert_eq!(list(&admin, of_entry).await, [hers.uid.clone(), theirs.uid.clone()]);
    for (state, found) in [(InstallationState::Pending, 3), (InstallationState::Ready, 0)] {
        let of_state = ListInstallationsRequest {
            state: state.into(),
            ..all.clone()
        };
        assert_eq!(list(&admin, of_state.clone()).await.len(), found);
        assert_eq!(list(&bob, of_state).await.len(), found.min(2));
    }
    let unknown = ListInstallationsRequest {
        entry: "entries/none".into(),
        ..all
    };
    assert!(list(&admin, unknown).await.is_empty());
    assert_eq!(bob.installation(&hers.name).await.unwrap_err().code(), Code::NotFound);
    let delete = delete_installation(&hers.name);
    assert_eq!(
        bob.installations()
            .delete_installation(delete)
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    for name in ["installations/x", "installations/", "entries/time"] {
        assert_eq!(fields(&bob.installation(name).await.unwrap_err()), ["name"]);
    }
}

async fn follow_their_entry_without_asking_again(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let entry = Entry {
        install_fields: vec![field("token", InstallFieldType::Secret, true)],
        ..remote()
    };
    let entry = admin.approved("time", entry).await;
    let made = alice.install(&entry.name, None, &[]).await.unwrap();
    let mut retitled = entry.clone();
    retitled.etag.clear();
    retitled.description = "new words".to_owned();
    retitled.install_fields[0].title = "Token of yours".to_owned();
    retitled.labels = map(&[("a", "b")]);
    let changed = admin
        .update(retitled, &["description", "install_fields", "labels"])
        .await
        .unwrap();
    assert_eq!(changed.entry_revision, 1, "nothing that runs has changed");
    assert_eq!(
        alice.installation(&made.name).await.unwrap(),
        made,
        "so it is not touched"
    );
    let url = RemoteServer {
        url: "https://other.example.com/mcp".to_owned(),
        ..RemoteServer::default()
    };
    let change = Entry {
        name: entry.name,
        server: Some(entry::Server::Remote(url)),
        ..Default::default()
    };
    let changed = admin.update(change, &["remote"]).await.unwrap();
    let rollout = changed.rollout.unwrap();
    assert_eq!((rollout.entry_revision, rollout.moved, rollout.left), (2, 1, 0));
    let moved = alice.installation(&made.name).await.unwrap();
    assert!(moved.reinstall_required.is_none() && moved.registry_revision > made.registry_revision);
    assert_eq!(moved.etag, made.etag);
    assert_eq!(
        (
            moved.running_entry_revision,
            moved.generation,
            moved.created_entry_revision
        ),
        (2, 2, 1)
    );
}

async fn wait_for_what_their_entry_newly_requires(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let entry = admin.approved("time", remote()).await;
    let made = alice.install(&entry.name, None, &[]).await.unwrap();
    let mut change = entry.clone();
    change.etag.clear();
    change.install_fields = vec![
        field("tenant", InstallFieldType::String, true),
        field("token", InstallFieldType::Secret, true),
    ];
    let changed = admin.update(change.clone(), &["install_fields"]).await.unwrap();
    let rollout = changed.rollout.unwrap();
    assert_eq!((rollout.moved, rollout.held, rollout.left), (0, 1, 0));
    assert_eq!(
        rollout.holds,
        [RolloutHold {
            reason: "FIELD_REQUIRED".to_owned(),
            installations: 1
        }]
    );
    let held = alice.installation(&made.name).await.unwrap();
    assert_eq!((held.running_entry_revision, held.generation), (1, 1));
    let why = held.reinstall_required.clone().unwrap();
    assert_eq!(
        (why.reason.as_str(), why.fields),
        ("FIELD_REQUIRED", vec!["tenant".to_owned(), "token".to_owned()])
    );
    let change = Installation {
        values: map(&[("tenant", "acme")]),
        ..held
    };
    let request = UpdateInstallationRequest {
        installation: Some(change),
        update_mask: None,
    };
    let moved = alice
        .installations()
        .update_installation(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (moved.running_entry_revision, moved.generation, moved.reinstall_required),
        (2, 2, None)
    );
    let rollout = admin.entry(&entry.name).await.unwrap().rollout.unwrap();
    assert_eq!((rollout.moved, rollout.held, rollout.left), (1, 0, 0));
}

async fn become_ready_by_what_workloads_report(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    admin.approved("time", remote()).await;
    let made = alice.install("entries/time", None, &[]).await.unwrap();
    stack.credential_ready(&made).await;
    assert_eq!(
        alice.installation(&made.name).await.unwrap().state(),
        InstallationState::Pending
    );
    stack.discover(&made, &["now", "convert"]).await;
    let ready = alice.installation(&made.name).await.unwrap();
    assert_eq!(ready.state(), InstallationState::Ready);
    assert!(ready.first_ready_time.is_some() && ready.expire_time.is_none());
    let request = ListInstallationToolsRequest {
        parent: made.name.clone(),
        page_size: 1,
        ..Default::default()
    };
    let page = alice
        .installations()
        .list_installation_tools(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(page.tools[0].tool, "convert");
    assert_eq!(page.tools[0].definition_json, "{\"name\":\"convert\"}");
    let request = ListInstallationToolsRequest {
        page_token: page.next_page_token,
        ..request
    };
    let page = alice
        .installations()
        .list_installation_tools(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (page.tools[0].tool.as_str(), page.next_page_token.as_str()),
        ("now", "")
    );
    let request = ListEntryToolsRequest {
        parent: "entries/time".to_owned(),
        ..Default::default()
    };
    let tools = alice
        .entries()
        .list_entry_tools(request)
        .await
        .unwrap()
        .into_inner()
        .tools;
    assert_eq!(tools.len(), 2);
}

async fn are_deleted_and_cleaned_up(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    admin.approved("time", remote()).await;
    let made = alice.install("entries/time", None, &[]).await.unwrap();
    let request = DeleteInstallationRequest {
        name: made.name.clone(),
        etag: "stale".to_owned(),
    };
    assert_eq!(
        alice
            .installations()
            .delete_installation(request)
            .await
            .unwrap_err()
            .code(),
        Code::Aborted
    );
    let request = DeleteInstallationRequest {
        name: made.name.clone(),
        etag: made.etag,
    };
    let deleted = alice
        .installations()
        .delete_installation(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(deleted.state(), InstallationState::Deleting);
    assert_eq!(
        alice
            .installations()
            .delete_installation(request)
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    // Its place is free at once.
    let again = alice.install("entries/time", None, &[]).await.unwrap();
    assert_ne!(again.uid, made.uid);
    for workload in [Workload::Credential, Workload::Orchestrator] {
        assert!(alice.installation(&made.name).await.is_ok());
        let subject = Some(report_cleanup_request::Subject::InstallationUid(made.uid.clone()));
        stack
            .reports(workload)
            .report_cleanup(ReportCleanupRequest {
                subject,
                ..Default::default()
            })
            .await
            .unwrap();
    }
    assert_eq!(alice.installation(&made.name).await.unwrap_err().code(), Code::NotFound);
}

async fn expire_when_nobody_completes_them(stack: Stack) {
    let (admin, alice, bob) = (stack.admin(), stack.person("alice"), stack.person("bob"));
    admin.approved("time", remote()).await;
    let left = alice.install("entries/time", None, &[]).await.unwrap();
    let completed = bob.install("entries/time", None, &[]).await.unwrap();
    stack.credential_ready(&completed).await;
    stack.clock.advance(A_DAY + Duration::from_secs(1));
    // Housekeeping comes by every few seconds.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while alice.installation(&left.name).await.unwrap().state() != InstallationState::Deleting {
        assert!(tokio::time::Instant::now() < deadline, "it has not expired");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        bob.installation(&completed.name).await.unwrap().state(),
        InstallationState::Pending
    );
}

async fn go_on_while_their_entry_is_deprecated(stack: Stack) {
    let (admin, alice, bob) = (stack.admin(), stack.person("alice"), stack.person("bob"));
    let entry = admin.approved("time", remote()).await;
    let made = alice.install(&entry.name, None, &[]).await.unwrap();
    let request = DeprecateEntryRequest {
        name: entry.name.clone(),
        etag: String::new(),
    };
    admin.entries().deprecate_entry(request).await.unwrap();
    assert_eq!(alice.installation(&made.name).await.unwrap().delete_time, None);
    let refused = bob.install(&entry.name, None, &[]).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::FailedPrecondition, "ENTRY_NOT_APPROVED".to_owned())
    );
}

async fn survive_two_changes_at_once(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    admin.approved("time", remote()).await;
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let alice = alice.clone();
        attempts.spawn(async move { alice.install("entries/time", None, &[]).await });
    }
    let outcomes = attempts.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
    }
}
