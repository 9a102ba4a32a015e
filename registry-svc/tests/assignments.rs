//! Tool assignments over gRPC, on both engines.

#[path = "support/assigning.rs"]
mod assigning;
mod support;

use std::time::Duration;

use assigning::*;
use contracts::registry::{
    tool_assignment::{Binding, Selection},
    *,
};
use support::*;
use tonic::Code;

on_both_engines!(
    take_tools_that_are_known,
    pin_only_what_is_ones_own,
    change_by_mask,
    take_all_tools_of_an_entry,
    do_not_disclose_what_is_hidden,
    page_through_what_is_visible,
    keep_whom_an_owner_agreed_to,
    say_when_their_owner_agreed,
    replay_their_first_answer,
);

async fn take_tools_that_are_known(stack: Stack) {
    let (admin, alice, _) = prepare(&stack).await;
    let made = assign(&admin, tool("now"), false).await.unwrap();
    assert!(
        made.name.starts_with("gateways/default/toolAssignments/"),
        "{}",
        made.name
    );
    assert!(matches!(made.binding, Some(Binding::ResolveAtCallTime(_))));
    assert_eq!(made.create_revision, made.registry_revision);
    assert_eq!(
        (made.kind(), made.consented_visibility.clone()),
        (FeatureKind::Tool, None)
    );
    assert_eq!(made.entry_uid, admin.entry("entries/time").await.unwrap().uid);
    let unknown = assign(&admin, tool("later"), false).await.unwrap_err();
    assert_eq!(reason(&unknown), (Code::FailedPrecondition, "TOOL_UNKNOWN".to_owned()));
    let absent = assign(&admin, tool_of("entries/none", "now"), false).await.unwrap_err();
    assert_eq!(reason(&absent), (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned()));
    let twice = assign(&admin, tool("now"), false).await.unwrap_err();
    assert_eq!(reason(&twice), (Code::AlreadyExists, "ALREADY_EXISTS".to_owned()));
    assert!(twice.message().contains(&made.uid));
    assert_eq!(
        assign(&alice, tool("convert"), false).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let named = ToolAssignment {
        exposed_name: "clock".to_owned(),
        ..tool("convert")
    };
    let clock = assign(&admin, named, false).await.unwrap();
    let installation = admin.install("entries/time", None, &[]).await.unwrap();
    let taken = ToolAssignment {
        exposed_name: "clock".to_owned(),
        ..pinned("now", &installation)
    };
    let taken = assign(&admin, taken, true).await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists);
    assert!(taken.message().contains(&clock.uid));
    let bad = ToolAssignment {
        exposed_name: "a b".to_owned(),
        entry: "x".to_owned(),
        ..tool("")
    };
    let bad = assign(&admin, bad, false).await.unwrap_err();
    assert_eq!(
        fields(&bad),
        [
            "tool_assignment.entry",
            "tool_assignment.tool",
            "tool_assignment.exposed_name"
        ]
    );
}

async fn pin_only_what_is_ones_own(stack: Stack) {
    let (admin, alice, hers) = prepare(&stack).await;
    admin.team("ops", true, &[&alice]).await;
    let teams = alice.install("entries/time", Some("teams/ops"), &[]).await.unwrap();
    let his = admin.install("entries/time", None, &[]).await.unwrap();
    let refused = assign(&admin, pinned("now", &hers), true).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
    );
    let refused = assign(&admin, pinned("now", &his), false).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::FailedPrecondition, "SHARED_ACCOUNT_NOT_CONFIRMED".to_owned())
    );
    let made = assign(&admin, pinned("now", &his), true).await.unwrap();
    assert_eq!(made.binding, Some(Binding::PinnedInstallation(his.name)));
    let of_team = assign(&admin, pinned("now", &teams), false).await.unwrap();
    assert_eq!(of_team.consented_visibility, None, "a team's account is nobody's own");
    admin.approved("other", remote()).await;
    let other = admin.install("entries/other", None, &[]).await.unwrap();
    let refused = assign(&admin, pinned("now", &other), true).await.unwrap_err();
    assert_eq!(fields(&refused), ["tool_assignment.pinned_installation"]);
    let absent = Installation {
        name: format!("installations/{}", service_kit::random::uuid()),
        ..Default::default()
    };
    assert_eq!(
        assign(&admin, pinned("now", &absent), true).await.unwrap_err().code(),
        Code::NotFound
    );
}

async fn change_by_mask(stack: Stack) {
    let (admin, alice, _) = prepare(&stack).await;
    let made = assign(&admin, tool("now"), false).await.unwrap();
    let his = admin.install("entries/time", None, &[]).await.unwrap();
    let change = ToolAssignment {
        exposed_name: "clock".to_owned(),
        binding: Some(Binding::PinnedInstallation(his.name.clone())),
        etag: String::new(),
        ..made.clone()
    };
    let changed = update(&admin, change.clone(), mask(&["exposed_name"]), false)
        .await
        .unwrap();
    assert_eq!(
        (changed.exposed_name.as_str(), changed.binding.clone()),
        ("clock", made.binding.clone())
    );
    let same = update(&admin, change.clone(), mask(&["exposed_name"]), false)
        .await
        .unwrap();
    assert_eq!(same, changed, "what changes nothing writes nothing");
    let pin = mask(&["pinned_installation"]);
    let refused = update(&admin, change.clone(), pin.clone(), false).await.unwrap_err();
    assert_eq!(reason(&refused).1, "SHARED_ACCOUNT_NOT_CONFIRMED");
    let changed = update(&admin, change.clone(), pin, true).await.unwrap();
    assert_eq!(changed.binding, Some(Binding::PinnedInstallation(his.name.clone())));
    assert_eq!(changed.consented_visibility, for_organization());
    let resolve = ToolAssignment {
        binding: Some(Binding::ResolveAtCallTime(ResolveAtCallTime {})),
        ..change.clone()
    };
    let changed = update(&admin, resolve, mask(&["resolve_at_call_time"]), false)
        .await
        .unwrap();
    assert!(matches!(changed.binding, Some(Binding::ResolveAtCallTime(_))));
    assert_eq!(changed.consented_visibility, None);
    // Without a mask, what is set is taken: the name stays.
    let set = ToolAssignment {
        exposed_name: String::new(),
        ..change.clone()
    };
    let changed = update(&admin, set, None, true).await.unwrap();
    assert_eq!(changed.exposed_name, "clock");
    assert_eq!(changed.binding, Some(Binding::PinnedInstallation(his.name)));
    let bare = ToolAssignment {
        name: made.name.clone(),
        ..Default::default()
    };
    let changed = update(&admin, bare, mask(&["*"]), false).await.unwrap();
    assert_eq!(changed.exposed_name, "");
    assert!(matches!(changed.binding, Some(Binding::ResolveAtCallTime(_))));
    assert_eq!(changed.selection, made.selection, "what is assigned is immutable");
    let late = ToolAssignment {
        etag: made.etag,
        ..change.clone()
    };
    let late = update(&admin, late, mask(&["exposed_name"]), false).await.unwrap_err();
    assert_eq!(late.code(), Code::Aborted);
    let refused = update(&admin, change, mask(&["tool"]), false).await.unwrap_err();
    assert_eq!(fields(&refused), ["update_mask.paths[0]"]);
    let request = delete_tool_assignment(&made.name);
    let denied = alice.assignments().delete_tool_assignment(request.clone()).await;
    assert_eq!(denied.unwrap_err().code(), Code::PermissionDenied);
    admin.assignments().delete_tool_assignment(request).await.unwrap();
    assert_eq!(get(&admin, &made.name).await.unwrap_err().code(), Code::NotFound);
    let refused = get(&admin, "gateways/default/toolAssignments/x").await.unwrap_err();
    assert_eq!(fields(&refused), ["name"]);
}

async fn take_all_tools_of_an_entry(stack: Stack) {
    let (admin, _, _) = prepare(&stack).await;
    let all = ToolAssignment {
        selection: Some(Selection::AllTools(AllTools {})),
        ..tool("")
    };
    let made = assign(&admin, all.clone(), false).await.unwrap();
    assert_eq!(made.selection, all.selection);
    let twice = assign(&admin, all.clone(), false).await.unwrap_err();
    assert_eq!(twice.code(), Code::AlreadyExists);
    // One tool by another name, in addition to all of them.
    let named = ToolAssignment {
        exposed_name: "clock".to_owned(),
        ..tool("now")
    };
    assign(&admin, named, false).await.unwrap();
    let named = ToolAssignment {
        exposed_name: "clocks".to_owned(),
        ..all.clone()
    };
    let refused = assign(&admin, named, false).await.unwrap_err();
    assert_eq!(fields(&refused), ["tool_assignment.exposed_name"]);
    let neither = ToolAssignment {
        selection: None,
        ..all.clone()
    };
    let refused = assign(&admin, neither, false).await.unwrap_err();
    assert_eq!(fields(&refused), ["tool_assignment.selection"]);
    // Also of an entry whose tools nobody knows yet.
    admin.approved("new", remote()).await;
    let of_new = ToolAssignment {
        entry: "entries/new".to_owned(),
        ..all
    };
    assign(&admin, of_new, false).await.unwrap();
}

async fn do_not_disclose_what_is_hidden(stack: Stack) {
    let (admin, bob) = (stack.admin(), stack.person("bob"));
    let hidden = Entry {
        visibility: for_author(),
        ..remote()
    };
    let entry = admin.approved("project-x", hidden).await;
    let installation = admin.install(&entry.name, None, &[]).await.unwrap();
    stack.discover(&installation, &["fire-everybody"]).await;
    admin.gateway("default", Gateway::default()).await.unwrap();
    let assignment = ToolAssignment {
        entry: entry.name.clone(),
        ..pinned("fire-everybody", &installation)
    };
    let made = assign(&admin, assignment, true).await.unwrap();
    assert_eq!(bob.entry(&entry.name).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(listed(&bob, 50).await, []);
    let refused = get(&bob, &made.name).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned()));
    let request = delete_tool_assignment(&made.name);
    let refused = bob.assignments().delete_tool_assignment(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);

    // The entry opens, the installation does not: its name stays hidden from all but those who may see it.
    let open = Entry {
        name: entry.name.clone(),
        visibility: for_organization(),
        ..Default::default()
    };
    admin.update(open, &["visibility"]).await.unwrap();
    let shown = ToolAssignment {
        binding: Some(Binding::PinnedInstallation("installations/-".to_owned())),
        ..made.clone()
    };
    assert_eq!(get(&bob, &made.name).await.unwrap(), shown);
    assert_eq!(listed(&bob, 50).await, [shown]);
    assert_eq!(listed(&admin, 50).await, [made]);
}

async fn page_through_what_is_visible(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    admin.team("ops", false, &[&alice]).await;
    admin.gateway("default", Gateway::default()).await.unwrap();
    let (mut all, mut hers) = (Vec::new(), Vec::new());
    for index in 0..9 {
        stack.clock.advance(Duration::from_millis(1));
        let visibility = match index % 3 {
            0 => None,
            1 => for_author(),
            _ => for_teams(&["teams/ops"]),
        };
        let entry = Entry { visibility, ..remote() };
        let entry = admin.approved(&format!("e{index}"), entry).await;
        let installation = admin.install(&entry.name, None, &[]).await.unwrap();
        stack.discover(&installation, &["x"]).await;
        let made = assign(&admin, tool_of(&entry.name, "x"), false).await.unwrap();
        if index % 3 != 1 {
            hers.push(made.name.clone());
        }
        all.push(made.name);
    }
    for size in [1, 2, 4, 50] {
        assert_eq!(names(&listed(&admin, size).await), all);
        assert_eq!(names(&listed(&alice, size).await), hers);
    }
    // A page token of somebody else's list opens nothing.
    let request = ListToolAssignmentsRequest {
        parent: GATEWAY.to_owned(),
        page_size: 1,
        ..Default::default()
    };
    let page = admin
        .assignments()
        .list_tool_assignments(request.clone())
        .await
        .unwrap()
        .into_inner();
    let request = ListToolAssignmentsRequest {
        page_token: page.next_page_token,
        ..request
    };
    let refused = alice.assignments().list_tool_assignments(request).await.unwrap_err();
    assert_eq!(reason(&refused).1, "PAGE_TOKEN_INVALID");
    // A deleted entry takes its assignments out of sight at once.
    let request = DeleteEntryRequest {
        name: "entries/e0".to_owned(),
        force: true,
        ..Default::default()
    };
    admin.entries().delete_entry(request).await.unwrap();
    assert_eq!(names(&listed(&admin, 2).await), all[1..]);
    assert_eq!(names(&listed(&alice, 2).await), hers[1..]);
}

async fn keep_whom_an_owner_agreed_to(stack: Stack) {
    let (admin, alice, _) = prepare(&stack).await;
    admin.team("ops", true, &[&alice]).await;
    set_visibility(&admin, for_teams(&["teams/ops"])).await;
    let his = admin.install("entries/time", None, &[]).await.unwrap();
    let made = assign(&admin, pinned("now", &his), true).await.unwrap();
    assert_eq!(made.consented_visibility, for_teams(&["teams/ops"]));

    set_visibility(&admin, for_organization()).await;
    let kept = get(&admin, &made.name).await.unwrap();
    assert_eq!(kept, made, "opening the gateway does not widen what was agreed to");
    let renamed = ToolAssignment {
        name: made.name.clone(),
        exposed_name: "clock".to_owned(),
        ..Default::default()
    };
    let renamed = update(&admin, renamed, None, false).await.unwrap();
    assert_eq!(renamed.consented_visibility, for_teams(&["teams/ops"]));
    let agreed = ToolAssignment {
        name: made.name.clone(),
        ..Default::default()
    };
    let agreed = update(&admin, agreed, None, true).await.unwrap();
    assert_eq!(agreed.consented_visibility, for_organization(), "agreed again");
    assert_eq!(agreed.binding, made.binding);
}

async fn say_when_their_owner_agreed(stack: Stack) {
    let (admin, _, _) = prepare(&stack).await;
    let his = admin.install("entries/time", None, &[]).await.unwrap();
    let made = assign(&admin, pinned("now", &his), true).await.unwrap();
    assert_eq!(made.consent_time, made.create_time);
    stack.clock.advance(Duration::from_secs(1));
    let renamed = ToolAssignment {
        name: made.name.clone(),
        exposed_name: "clock".to_owned(),
        ..Default::default()
    };
    let renamed = update(&admin, renamed, None, false).await.unwrap();
    assert_eq!(renamed.consent_time, made.consent_time, "that is no consent");
    let again = ToolAssignment {
        name: made.name.clone(),
        ..Default::default()
    };
    let again = update(&admin, again, None, true).await.unwrap();
    assert_eq!(again.consented_visibility, made.consented_visibility);
    assert_eq!(
        again.consent_time, again.update_time,
        "a team that came meanwhile is meant now"
    );
    let resolved = ToolAssignment {
        name: made.name.clone(),
        binding: Some(Binding::ResolveAtCallTime(Default::default())),
        ..Default::default()
    };
    let resolved = update(&admin, resolved, None, false).await.unwrap();
    assert_eq!((resolved.consented_visibility, resolved.consent_time), (None, None));
}

async fn replay_their_first_answer(stack: Stack) {
    let (admin, _, _) = prepare(&stack).await;
    let create = || CreateToolAssignmentRequest {
        parent: GATEWAY.to_owned(),
        tool_assignment: Some(tool("now")),
        request_id: "5a8c2f0e-6f5c-4d07-9c38-5a1f6f6d2a10".to_owned(),
        ..Default::default()
    };
    let again = || async {
        let again = admin.assignments().create_tool_assignment(create()).await;
        again.map(tonic::Response::into_inner)
    };
    let first = again().await.unwrap();
    let change = ToolAssignment {
        name: first.name.clone(),
        exposed_name: "clock".to_owned(),
        ..Default::default()
    };
    update(&admin, change, None, false).await.unwrap();
    assert_eq!(again().await.unwrap(), first);
    // Once they are no admin any more, somebody else's hidden entry does not exist for them.
    let other_admin = stack.admin_named("other");
    let mine = Entry {
        visibility: for_author(),
        ..remote()
    };
    let theirs = other_admin.approved("theirs", mine).await;
    let installation = other_admin.install(&theirs.name, None, &[]).await.unwrap();
    stack.discover(&installation, &["x"]).await;
    let create = CreateToolAssignmentRequest {
        parent: GATEWAY.to_owned(),
        tool_assignment: Some(tool_of(&theirs.name, "x")),
        request_id: service_kit::random::uuid().to_string(),
        ..Default::default()
    };
    admin
        .assignments()
        .create_tool_assignment(create.clone())
        .await
        .unwrap();
    let no_admin = stack.person("admin");
    let refused = no_admin.assignments().create_tool_assignment(create).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned()));

    let request = delete_tool_assignment(&first.name);
    admin.assignments().delete_tool_assignment(request).await.unwrap();
    assert_eq!(again().await.unwrap_err().code(), Code::NotFound);
}
