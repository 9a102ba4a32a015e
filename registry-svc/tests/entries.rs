//! Entries over gRPC, on both engines.

mod support;

use std::time::Duration;

use contracts::registry::*;
use support::*;
use tonic::Code;

on_both_engines!(
    live_through_their_lifecycle,
    name_all_that_is_wrong,
    are_changed_by_mask_and_keep_what_ran,
    are_protected_by_their_etag,
    say_since_when_their_labels_select,
    answer_a_retry_with_the_first_answer,
    say_how_far_they_are_from_the_beginning,
    are_seen_by_whom_they_are_for,
    are_listed_in_pages,
    that_are_large_are_listed_in_pages_that_clients_take,
    say_all_that_is_wrong_with_a_list,
    are_found_by_words,
    refuse_names_that_are_none,
    go_with_their_installations_only_by_force,
);

async fn live_through_their_lifecycle(stack: Stack) {
    let admin = stack.admin();
    let draft = admin.created("time", remote()).await;
    assert_eq!(
        (draft.name.as_str(), draft.lifecycle(), draft.entry_revision),
        ("entries/time", EntryLifecycle::Draft, 1)
    );
    assert_eq!(draft.creator, admin.user);
    assert!(draft.registry_revision > 0 && !draft.etag.is_empty() && draft.create_time.is_some());
    let deprecate = DeprecateEntryRequest {
        name: draft.name.clone(),
        etag: String::new(),
    };
    let refused = admin.entries().deprecate_entry(deprecate.clone()).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::FailedPrecondition, "ILLEGAL_TRANSITION".to_owned())
    );
    let approve = ApproveEntryRequest {
        name: draft.name.clone(),
        etag: String::new(),
    };
    let approved = admin
        .entries()
        .approve_entry(approve.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(approved.lifecycle(), EntryLifecycle::Approved);
    assert!(approved.registry_revision > draft.registry_revision);
    assert_ne!(approved.etag, draft.etag);
    let deprecated = admin.entries().deprecate_entry(deprecate).await.unwrap().into_inner();
    assert_eq!(deprecated.lifecycle(), EntryLifecycle::Deprecated);
    let again = admin.entries().approve_entry(approve).await.unwrap().into_inner();
    assert_eq!(again.lifecycle(), EntryLifecycle::Approved);
    let read = admin.entry("entries/time").await.unwrap();
    assert_eq!(read, again);
    assert_eq!(
        read.rollout.map(|rollout| (rollout.entry_revision, rollout.left)),
        Some((1, 0))
    );
}

async fn name_all_that_is_wrong(stack: Stack) {
    let admin = stack.admin();
    let mut bad = remote();
    bad.labels = map(&[("-", "x")]);
    bad.install_fields = vec![field("1", InstallFieldType::String, true)];
    bad.additional_headers = vec![AdditionalHeader {
        name: "Authorization".to_owned(),
        source: Some(additional_header::Source::Value("x\r\ny".to_owned())),
    }];
    let request = CreateEntryRequest {
        entry_id: "No Slug".to_owned(),
        entry: Some(bad),
        request_id: "not-a-uuid".to_owned(),
    };
    let refused = admin.entries().create_entry(request).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
    assert_eq!(
        fields(&refused),
        [
            "request_id",
            "entry_id",
            "entry.labels[-]",
            "entry.install_fields[0].key",
            "entry.additional_headers[0].name",
            "entry.additional_headers[0].value",
        ]
    );
    let nobody = Entry {
        visibility: Some(Visibility {
            audience: Some(visibility::Audience::Teams(TeamsAudience {
                teams: vec!["teams/nobody".to_owned()],
            })),
        }),
        ..remote()
    };
    let request = create_entry("a", nobody);
    let refused = admin.entries().create_entry(request).await.unwrap_err();
    assert_eq!(fields(&refused), ["entry.visibility.teams.teams[0]"]);
}

async fn are_changed_by_mask_and_keep_what_ran(stack: Stack) {
    let admin = stack.admin();
    let entry = admin
        .created(
            "time",
            Entry {
                version: "1".to_owned(),
                ..remote()
            },
        )
        .await;
    let change = Entry {
        version: "2".to_owned(),
        description: "ignored".to_owned(),
        ..entry.clone()
    };
    let changed = admin.update(change.clone(), &["version"]).await.unwrap();
    assert_eq!(
        (
            changed.version.as_str(),
            changed.description.as_str(),
            changed.entry_revision
        ),
        ("2", "", 1),
        "a text is nothing that runs"
    );
    // What changes nothing is no change.
    let same = admin
        .update(
            Entry {
                etag: String::new(),
                ..change
            },
            &["version"],
        )
        .await
        .unwrap();
    assert_eq!(
        (same.entry_revision, same.registry_revision),
        (1, changed.registry_revision)
    );
    let hosted = Entry {
        name: entry.name.clone(),
        server: Some(entry::Server::SelfHosted(SelfHostedServer {
            command: "run".to_owned(),
            ..Default::default()
        })),
        ..Entry::default()
    };
    let changed = admin.update(hosted, &["self_hosted"]).await.unwrap();
    let Some(entry::Server::SelfHosted(mut server)) = changed.server else {
        panic!("it is self-hosted")
    };
    assert_eq!((changed.entry_revision, server.confirm_new_versions), (2, false));
    server.confirm_new_versions = true;
    let demanding = Entry {
        name: entry.name.clone(),
        server: Some(entry::Server::SelfHosted(server.clone())),
        ..Entry::default()
    };
    let demanding = admin.update(demanding, &["self_hosted"]).await.unwrap();
    assert_eq!(demanding.server, Some(entry::Server::SelfHosted(server)));
    assert_eq!(demanding.entry_revision, 3);
    let again = Entry {
        name: entry.name.clone(),
        ..remote()
    };
    assert_eq!(admin.update(again, &["remote"]).await.unwrap().entry_revision, 4);
    let refused = admin
        .update(
            Entry {
                name: entry.name.clone(),
                ..remote()
            },
            &["remote.url", "uid"],
        )
        .await
        .unwrap_err();
    assert_eq!(fields(&refused), ["update_mask.paths[0]", "update_mask.paths[1]"]);

    let name = format!("{}/revisions/1", entry.name);
    let first = admin
        .entries()
        .get_entry_revision(GetEntryRevisionRequest { name })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((first.number, first.version.as_str()), (1, "1"));
    assert!(matches!(first.server, Some(entry_revision::Server::Remote(_))));
    assert_eq!(first.entry_uid, entry.uid);
    for (name, code) in [
        ("entries/time/revisions/5", Code::NotFound),
        ("entries/time/revisions/0", Code::InvalidArgument),
        ("entries/time/revisions/x", Code::InvalidArgument),
        ("entries/other/revisions/1", Code::NotFound),
    ] {
        let request = get_entry_revision(name);
        assert_eq!(
            admin.entries().get_entry_revision(request).await.unwrap_err().code(),
            code,
            "{name}"
        );
    }
    let mut numbers = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListEntryRevisionsRequest {
            parent: entry.name.clone(),
            page_size: 2,
            page_token,
        };
        let page = admin
            .entries()
            .list_entry_revisions(request)
            .await
            .unwrap()
            .into_inner();
        numbers.extend(page.entry_revisions.into_iter().map(|revision| revision.number));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(numbers, [4, 3, 2, 1]);
}

async fn are_protected_by_their_etag(stack: Stack) {
    let admin = stack.admin();
    let read = admin.created("time", remote()).await;
    admin
        .update(
            Entry {
                version: "2".to_owned(),
                ..read.clone()
            },
            &["version"],
        )
        .await
        .unwrap();
    let late = admin
        .update(
            Entry {
                version: "3".to_owned(),
                ..read.clone()
            },
            &["version"],
        )
        .await
        .unwrap_err();
    assert_eq!(reason(&late), (Code::Aborted, "ETAG_MISMATCH".to_owned()));
    let request = DeleteEntryRequest {
        name: read.name,
        etag: read.etag,
        force: false,
    };
    assert_eq!(
        admin.entries().delete_entry(request).await.unwrap_err().code(),
        Code::Aborted
    );
}

/// Nobody is offered a draft.
async fn say_since_when_their_labels_select(stack: Stack) {
    let admin = stack.admin();
    let since = |labels: &[(&str, i64)]| labels.iter().map(|&(key, since)| (key.to_owned(), since)).collect();
    let labelled = Entry {
        labels: map(&[("team", "ops"), ("area", "web")]),
        ..remote()
    };
    let made = admin.created("time", labelled).await;
    let first = made.registry_revision;
    assert_eq!(made.label_revisions, since(&[("team", first), ("area", first)]));
    let request = ApproveEntryRequest {
        name: made.name.clone(),
        ..Default::default()
    };
    let approved = admin
        .entries()
        .approve_entry(request.clone())
        .await
        .unwrap()
        .into_inner();
    let second = approved.registry_revision;
    assert_eq!(approved.label_revisions, since(&[("team", second), ("area", second)]));
    let change = Entry {
        name: made.name.clone(),
        labels: map(&[("team", "core"), ("area", "web"), ("kind", "clock")]),
        label_revisions: since(&[("area", 1)]),
        ..remote()
    };
    let changed = admin.update(change.clone(), &["labels"]).await.unwrap();
    let third = changed.registry_revision;
    let expected = since(&[("team", third), ("area", second), ("kind", third)]);
    assert_eq!(changed.label_revisions, expected);
    let described = Entry {
        description: "d".to_owned(),
        ..change
    };
    let described = admin.update(described, &["description"]).await.unwrap();
    assert_eq!(described.label_revisions, expected);
    let request_of = |name: &str| DeprecateEntryRequest {
        name: name.to_owned(),
        ..Default::default()
    };
    admin.entries().deprecate_entry(request_of(&made.name)).await.unwrap();
    let again = admin.entries().approve_entry(request).await.unwrap().into_inner();
    assert_eq!(again.label_revisions, expected, "it was not a draft");
    assert_eq!(admin.entry(&made.name).await.unwrap().label_revisions, expected);
}

async fn answer_a_retry_with_the_first_answer(stack: Stack) {
    let admin = stack.admin();
    let request = CreateEntryRequest {
        entry_id: "time".to_owned(),
        entry: Some(Entry {
            labels: map(&[("a", "1"), ("b", "2"), ("c", "3")]),
            ..remote()
        }),
        request_id: service_kit::random::uuid().to_string(),
    };
    let first = admin
        .entries()
        .create_entry(request.clone())
        .await
        .unwrap()
        .into_inner();
    let again = admin
        .entries()
        .create_entry(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first, again);
    let change = Entry {
        name: first.name.clone(),
        labels: map(&[("a", "b")]),
        ..Entry::default()
    };
    let changed = admin.update(change, &["labels"]).await.unwrap();
    let replay = admin.entries().create_entry(request.clone()).await.unwrap();
    let in_force: i64 = replay
        .metadata()
        .get("chandlery-revision")
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(in_force, changed.registry_revision, "it speaks of the entry as it is");
    assert_eq!(replay.into_inner(), first, "and answers as it did first");
    let other = CreateEntryRequest {
        entry_id: "other".to_owned(),
        ..request.clone()
    };
    let refused = admin.entries().create_entry(other).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned())
    );
    let fresh = CreateEntryRequest {
        request_id: String::new(),
        ..request
    };
    let refused = admin.entries().create_entry(fresh).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::AlreadyExists, "ALREADY_EXISTS".to_owned()));
}

async fn say_how_far_they_are_from_the_beginning(stack: Stack) {
    let admin = stack.admin();
    let made = admin.created("time", remote()).await;
    let rollout = made.rollout.unwrap();
    assert_eq!((rollout.entry_revision, rollout.left), (1, 0));
    let request = |id: &str| CreateEntryRequest {
        entry_id: "other".to_owned(),
        entry: Some(remote()),
        request_id: id.to_owned(),
    };
    // A UUID is the same however it is written.
    let first = admin
        .entries()
        .create_entry(request("6ba7b810-9dad-11d1-80b4-00c04fd430c8"))
        .await
        .unwrap();
    let again = admin
        .entries()
        .create_entry(request("6BA7B810-9DAD-11D1-80B4-00C04FD430C8"))
        .await
        .unwrap();
    assert_eq!(first.into_inner(), again.into_inner());
    let revision = |number: &str| GetEntryRevisionRequest {
        name: format!("{}/revisions/{number}", made.name),
    };
    assert!(admin.entries().get_entry_revision(revision("1")).await.is_ok());
    for wrong in ["01", "+1", "0", "-1", ""] {
        let refused = admin.entries().get_entry_revision(revision(wrong)).await.unwrap_err();
        assert_eq!(fields(&refused), ["name"], "{wrong}");
    }
}

async fn are_seen_by_whom_they_are_for(stack: Stack) {
    let (admin, alice, bob) = (stack.admin(), stack.person("alice"), stack.person("bob"));
    admin.team("ops", true, &[&alice]).await;
    let audience = visibility::Audience::Teams(TeamsAudience {
        teams: vec!["teams/ops".to_owned()],
    });
    admin
        .created(
            "ops-only",
            Entry {
                visibility: Some(Visibility {
                    audience: Some(audience),
                }),
                ..remote()
            },
        )
        .await;
    stack.clock.advance(Duration::from_millis(1));
    let audience = visibility::Audience::Author(AuthorAudience {});
    admin
        .created(
            "mine",
            Entry {
                visibility: Some(Visibility {
                    audience: Some(audience),
                }),
                ..remote()
            },
        )
        .await;
    stack.clock.advance(Duration::from_millis(1));
    admin.created("open", remote()).await;
    for (person, seen) in [
        (&admin, ["ops-only", "mine", "open"].as_slice()),
        (&alice, &["ops-only", "open"]),
        (&bob, &["open"]),
    ] {
        let listed = person
            .entries()
            .list_entries(ListEntriesRequest::default())
            .await
            .unwrap()
            .into_inner()
            .entries;
        let listed: Vec<_> = listed
            .iter()
            .map(|entry| entry.name.trim_start_matches("entries/"))
            .collect();
        assert_eq!(listed, seen);
    }
    // Invisible is as if it did not exist, to write as to read; visible but forbidden says so.
    let hidden = admin.entry("entries/ops-only").await.unwrap();
    let unseen = bob.entry("entries/ops-only").await.unwrap_err();
    let absent = bob.entry("entries/none").await.unwrap_err();
    assert_eq!(reason(&unseen), (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned()));
    assert_eq!(unseen.message().replace("ops-only", "none"), absent.message());
    assert_eq!(
        bob.update(hidden.clone(), &["version"]).await.unwrap_err().code(),
        Code::NotFound
    );
    let denied = alice.update(hidden, &["version"]).await.unwrap_err();
    assert_eq!(
        reason(&denied),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
    );
    let request = create_entry("x", remote());
    assert_eq!(
        alice.entries().create_entry(request).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

async fn are_listed_in_pages(stack: Stack) {
    let admin = stack.admin();
    for index in 0..7 {
        stack.clock.advance(Duration::from_millis(1));
        let team = if index % 2 == 0 { "even" } else { "odd" };
        admin
            .created(
                &format!("e{index}"),
                Entry {
                    labels: map(&[("team", team)]),
                    ..remote()
                },
            )
            .await;
    }
    let mut found = Vec::new();
    let mut request = ListEntriesRequest {
        page_size: 3,
        labels: map(&[("team", "even")]),
        ..Default::default()
    };
    loop {
        let page = admin
            .entries()
            .list_entries(request.clone())
            .await
            .unwrap()
            .into_inner();
        found.extend(page.entries.into_iter().map(|entry| entry.name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(found, ["entries/e0", "entries/e2", "entries/e4", "entries/e6"]);
    let first = ListEntriesRequest {
        page_size: 3,
        ..Default::default()
    };
    let token = admin
        .entries()
        .list_entries(first)
        .await
        .unwrap()
        .into_inner()
        .next_page_token;
    let other = ListEntriesRequest {
        page_token: token,
        labels: map(&[("team", "even")]),
        ..Default::default()
    };
    let refused = admin.entries().list_entries(other).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned())
    );
    let negative = ListEntriesRequest {
        page_size: -1,
        ..Default::default()
    };
    assert_eq!(
        fields(&admin.entries().list_entries(negative).await.unwrap_err()),
        ["page_size"]
    );
}

async fn that_are_large_are_listed_in_pages_that_clients_take(stack: Stack) {
    let admin = stack.admin();
    for index in 0..5 {
        stack.clock.advance(Duration::from_millis(1));
        admin.created(&format!("large-{index}"), large()).await;
    }
    let mut request = ListEntriesRequest::default();
    let mut pages = Vec::new();
    loop {
        // The client takes messages of 4 MiB.
        let page = admin
            .entries()
            .list_entries(request.clone())
            .await
            .unwrap()
            .into_inner();
        pages.push(page.entries.len());
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, [3, 2]);
    let mut changed = large();
    changed.name = "entries/large-0".to_owned();
    for number in 2..5 {
        changed.version = number.to_string();
        changed.server = Some(entry::Server::Remote(RemoteServer {
            url: format!("https://mcp.example.com/{number}"),
            ..RemoteServer::default()
        }));
        admin.update(changed.clone(), &["remote"]).await.unwrap();
    }
    let revisions = ListEntryRevisionsRequest {
        parent: changed.name,
        ..ListEntryRevisionsRequest::default()
    };
    let page = admin
        .entries()
        .list_entry_revisions(revisions)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        page.entry_revisions.iter().map(|one| one.number).collect::<Vec<_>>(),
        [4, 3, 2]
    );
    assert!(!page.next_page_token.is_empty());
}

/// The filters of a list are checked before anything is looked up.
async fn say_all_that_is_wrong_with_a_list(stack: Stack) {
    let labels: Vec<_> = (0..9).map(|index| (format!("l{index}"), "v".to_owned())).collect();
    let wrong = ListEntriesRequest {
        labels: labels.into_iter().chain([("-".to_owned(), "v".to_owned())]).collect(),
        lifecycle: 77,
        query: "%".to_owned(),
        ..ListEntriesRequest::default()
    };
    let refused = stack.admin().entries().list_entries(wrong).await.unwrap_err();
    let mut wrong = fields(&refused);
    wrong.sort();
    assert_eq!(wrong, ["labels", "labels[-]", "lifecycle", "query"]);
}

async fn are_found_by_words(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let named = |display_name: &str, description: &str| Entry {
        display_name: display_name.to_owned(),
        description: description.to_owned(),
        ..remote()
    };
    admin
        .created("issue-tracker", named("Jira Vorgänge", "Search issues, 100% fun"))
        .await;
    stack.clock.advance(Duration::from_millis(1));
    let hidden = Entry {
        visibility: Some(Visibility {
            audience: Some(visibility::Audience::Author(AuthorAudience {})),
        }),
        ..named("Secret issues", "")
    };
    admin.created("secret", hidden).await;
    stack.clock.advance(Duration::from_millis(1));
    let gone = admin.created("gone", named("Old issues", "")).await;
    let request = delete_entry(&gone.name);
    admin.entries().delete_entry(request).await.unwrap();
    for (person, query, expected) in [
        (&admin, "issue", ["issue-tracker", "secret"].as_slice()),
        (&alice, "ISSUE", &["issue-tracker"]),
        (&alice, "vorgä tracker", &["issue-tracker"]),
        (&alice, "sear jira 100", &["issue-tracker"]),
        (&alice, "ssue", &[]),
        (&alice, "issue nothing", &[]),
        (&alice, "", &["issue-tracker"]),
    ] {
        let request = ListEntriesRequest {
            query: query.to_owned(),
            ..Default::default()
        };
        let found = person
            .entries()
            .list_entries(request)
            .await
            .unwrap()
            .into_inner()
            .entries;
        let found: Vec<_> = found.iter().map(|e| e.name.trim_start_matches("entries/")).collect();
        assert_eq!(found, expected, "{query:?}");
    }
    let change = Entry {
        name: "entries/issue-tracker".to_owned(),
        display_name: "Tickets".to_owned(),
        ..Entry::default()
    };
    admin.update(change, &["display_name"]).await.unwrap();
    for (query, count) in [("jira", 0), ("ticket", 1)] {
        let request = ListEntriesRequest {
            query: query.to_owned(),
            ..Default::default()
        };
        let found = alice
            .entries()
            .list_entries(request)
            .await
            .unwrap()
            .into_inner()
            .entries;
        assert_eq!(found.len(), count, "{query}");
    }
    let request = ListEntriesRequest {
        query: "%_".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        fields(&alice.entries().list_entries(request).await.unwrap_err()),
        ["query"]
    );
}

async fn refuse_names_that_are_none(stack: Stack) {
    let admin = stack.admin();
    for name in [
        "",
        "time",
        "entries/",
        "entries/Time",
        "entries/a/b",
        "gateways/a",
        "entries/a\0",
        "entries/'; --",
    ] {
        assert_eq!(fields(&admin.entry(name).await.unwrap_err()), ["name"], "{name:?}");
    }
}

async fn go_with_their_installations_only_by_force(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let entry = admin.approved("time", remote()).await;
    let installation = alice.install("entries/time", None, &[]).await.unwrap();
    stack.discover(&installation, &["now"]).await;
    let gateway = admin.gateway("default", Gateway::default()).await.unwrap();
    let assignment = ToolAssignment {
        entry: entry.name.clone(),
        selection: Some(tool_assignment::Selection::Tool("now".to_owned())),
        ..Default::default()
    };
    let request = CreateToolAssignmentRequest {
        parent: gateway.name.clone(),
        tool_assignment: Some(assignment),
        ..Default::default()
    };
    let assigned = admin
        .assignments()
        .create_tool_assignment(request)
        .await
        .unwrap()
        .into_inner();

    let mut request = delete_entry(&entry.name);
    let refused = admin.entries().delete_entry(request.clone()).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::FailedPrecondition, "ENTRY_INSTALLED".to_owned())
    );
    assert!(refused.message().contains(&installation.name), "{}", refused.message());
    request.force = true;
    let deleted = admin.entries().delete_entry(request).await.unwrap().into_inner();
    assert!(deleted.delete_time.is_some());
    assert_eq!(admin.entry(&entry.name).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(
        alice.installation(&installation.name).await.unwrap().state(),
        InstallationState::Deleting
    );
    let gone = admin
        .assignments()
        .get_tool_assignment(get_tool_assignment(&assigned.name))
        .await;
    assert_eq!(gone.unwrap_err().code(), Code::NotFound);
    // A slug used again inherits nothing.
    let again = admin.approved("time", remote()).await;
    assert_ne!(again.uid, entry.uid);
    assert_eq!(again.entry_revision, 1);
    let tools = ListEntryToolsRequest {
        parent: again.name,
        ..Default::default()
    };
    assert!(
        admin
            .entries()
            .list_entry_tools(tools)
            .await
            .unwrap()
            .into_inner()
            .tools
            .is_empty()
    );
}
