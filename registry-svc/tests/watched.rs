//! What watchers see of the changes people make: each revision whole, and nothing that did not change.

mod support;

use contracts::registry::{watched_object::Object, *};
use service_kit::Workload;
use support::{
    watcher::{Watcher, puts, removals},
    *,
};

on_both_engines!(
    a_text_edit_touches_no_installation,
    an_edit_of_what_runs_moves_the_installations_after_it,
    what_goes_with_an_entry_is_told,
    members_of_teams_are_told_one_by_one,
);

async fn watching(stack: &Stack, workload: Workload) -> Watcher {
    let mut watcher = Watcher::start(stack, workload, &[]).await;
    watcher.snapshot().await;
    watcher
}

async fn a_text_edit_touches_no_installation(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let entry = admin.approved("time", remote()).await;
    alice.install(&entry.name, None, &[]).await.unwrap();
    let mut watcher = watching(&stack, Workload::Gateway).await;
    let change = Entry {
        name: entry.name.clone(),
        labels: map(&[("team", "ops")]),
        ..Default::default()
    };
    let updating = tokio::spawn(async move { admin.update(change, &["labels"]).await.unwrap() });
    let (revision, changes) = watcher.acked_changes().await;
    let [Object::Entry(watched)] = puts(&changes)[..] else {
        panic!("{changes:?}")
    };
    assert_eq!((watched.entry_revision, watched.registry_revision), (1, revision));
    assert_eq!(watched.labels, map(&[("team", "ops")]));
    assert_eq!(updating.await.unwrap().registry_revision, revision);
}

async fn an_edit_of_what_runs_moves_the_installations_after_it(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let entry = admin.approved("time", remote()).await;
    alice.install(&entry.name, None, &[]).await.unwrap();
    let mut watcher = watching(&stack, Workload::Credential).await;
    let server = entry::Server::Remote(RemoteServer {
        url: "https://elsewhere.example.com/mcp".to_owned(),
        ..RemoteServer::default()
    });
    let change = Entry {
        name: entry.name,
        server: Some(server),
        ..Default::default()
    };
    let updating = tokio::spawn(async move { admin.update(change, &["remote"]).await.unwrap() });
    // The revision comes before, or with, the installation that runs it.
    let mut known = vec![1];
    loop {
        let (_, changes) = watcher.acked_changes().await;
        let mut moved = false;
        for object in puts(&changes) {
            match object {
                Object::EntryRevision(revision) => known.push(revision.number),
                Object::Installation(installation) => {
                    assert!(known.contains(&installation.running_entry_revision), "{changes:?}");
                    moved = (installation.running_entry_revision, installation.generation) == (2, 2);
                }
                _ => {}
            }
        }
        if moved {
            break;
        }
    }
    drop(watcher);
    updating.await.unwrap();
}

async fn what_goes_with_an_entry_is_told(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let entry = admin.approved("time", remote()).await;
    let installation = alice.install(&entry.name, None, &[]).await.unwrap();
    stack.discover(&installation, &["now"]).await;
    admin.gateway("default", Gateway::default()).await.unwrap();
    let request = CreateToolAssignmentRequest {
        parent: "gateways/default".to_owned(),
        tool_assignment: Some(ToolAssignment {
            entry: entry.name.clone(),
            kind: FeatureKind::Tool.into(),
            selection: Some(tool_assignment::Selection::Tool("now".to_owned())),
            ..Default::default()
        }),
        ..Default::default()
    };
    let assignment = admin
        .assignments()
        .create_tool_assignment(request)
        .await
        .unwrap()
        .into_inner();
    let mut watcher = watching(&stack, Workload::Gateway).await;
    let request = DeleteEntryRequest {
        name: entry.name,
        etag: String::new(),
        force: true,
    };
    let deleting = tokio::spawn(async move { admin.entries().delete_entry(request).await.unwrap() });
    let (mut deleted, mut ended, mut removed) = (false, false, false);
    while !(deleted && ended && removed) {
        let (_, changes) = watcher.acked_changes().await;
        for object in puts(&changes) {
            match object {
                Object::Entry(entry) => deleted |= entry.delete_time.is_some(),
                Object::Installation(gone) => ended |= gone.state() == InstallationState::Deleting,
                other => panic!("{other:?}"),
            }
        }
        removed |= removals(&changes).contains(&(ObjectKind::ToolAssignment, assignment.uid.as_str()));
    }
    drop(watcher);
    deleting.await.unwrap();
}

async fn members_of_teams_are_told_one_by_one(stack: Stack) {
    let (admin, alice, bob) = (stack.admin(), stack.person("alice"), stack.person("bob"));
    let team = admin.team("ops", false, &[&alice]).await;
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[ObjectKind::Team, ObjectKind::TeamMember]).await;
    let (.., objects) = watcher.snapshot().await;
    let member = |person: &Person| WatchedTeamMember {
        team_uid: team.uid.clone(),
        user: person.user.clone(),
    };
    let key = |person: &Person| format!("{}/{}", team.uid, person.user.strip_prefix("users/").unwrap());
    assert_eq!(objects.len(), 2);
    assert_eq!(
        (objects[1].key.clone(), objects[1].object.clone()),
        (key(&alice), Some(Object::TeamMember(member(&alice))))
    );
    bob.entries().list_entries(ListEntriesRequest::default()).await.unwrap();
    let adding = tokio::spawn({
        let (admin, team, user) = (admin.clone(), team.name.clone(), bob.user.clone());
        async move {
            let member = Some(add_team_member_request::Member::User(user));
            admin
                .teams()
                .add_team_member(AddTeamMemberRequest { team, member })
                .await
                .unwrap()
        }
    });
    let (_, changes) = watcher.acked_changes().await;
    assert!(
        puts(&changes).contains(&&Object::TeamMember(member(&bob))),
        "{changes:?}"
    );
    assert!(
        !puts(&changes).contains(&&Object::TeamMember(member(&alice))),
        "{changes:?}"
    );
    adding.await.unwrap();
}
