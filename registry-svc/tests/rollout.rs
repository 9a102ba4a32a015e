//! How installations follow their entry in the background, on both engines.

mod support;

use std::time::Duration;

use contracts::registry::*;
use service_kit::Workload;
use support::{
    watcher::{Watcher, lagging},
    *,
};
use tonic::Code;

on_both_engines!(
    reaches_all_of_many_installations,
    goes_on_after_a_restart,
    deletes_what_goes_with_an_entry,
    retires_revisions_that_nothing_runs,
    keeps_no_other_entry_waiting,
    frees_the_name_of_a_deleted_gateway_at_once,
    waits_for_no_revision_that_never_was,
);

const MANY: usize = 150;

async fn installed(stack: &Stack, entry: &str) -> Vec<(Person, Installation)> {
    let mut made = Vec::new();
    for index in 0..MANY {
        let person = stack.person(&format!("p{index}"));
        let installation = person.install(entry, None, &[]).await.unwrap();
        made.push((person, installation));
    }
    made
}

fn at(url: &str, name: &str) -> Entry {
    Entry {
        name: name.to_owned(),
        server: Some(entry::Server::Remote(RemoteServer {
            url: url.to_owned(),
            ..RemoteServer::default()
        })),
        ..Default::default()
    }
}

async fn until_finished(admin: &Person, name: &str) -> EntryRollout {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let rollout = admin.entry(name).await.unwrap().rollout.unwrap();
        if rollout.left == 0 {
            return rollout;
        }
        assert!(tokio::time::Instant::now() < deadline, "{rollout:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn reaches_all_of_many_installations(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    let made = installed(&stack, &entry.name).await;
    let changed = admin
        .update(at("https://new.example.com/mcp", &entry.name), &["remote"])
        .await
        .unwrap();
    assert_eq!(changed.entry_revision, 2);
    let rollout = changed.rollout.unwrap();
    assert_eq!(rollout.moved + rollout.left, i64::try_from(MANY).unwrap());
    let rollout = until_finished(&admin, &entry.name).await;
    assert_eq!((rollout.moved, rollout.held), (i64::try_from(MANY).unwrap(), 0));
    for (person, installation) in &made {
        let moved = person.installation(&installation.name).await.unwrap();
        assert_eq!((moved.running_entry_revision, moved.generation), (2, 2));
    }
}

/// The last step of a rollout that holds installations changes nothing that is watched: its revision was claimed all the same, and
/// every watcher was said to lag behind it.
async fn waits_for_no_revision_that_never_was(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    admin.install(&entry.name, None, &[]).await.unwrap();
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[]).await;
    let (_, revision, _) = watcher.snapshot().await;
    watcher.ack(revision).await;
    let mut stopped = tokio::spawn(async move {
        loop {
            watcher.acked_changes().await;
        }
    });
    let request = UpdateEntryRequest {
        entry: Some(Entry {
            name: entry.name.clone(),
            install_fields: vec![field("key", InstallFieldType::String, true)],
            ..Entry::default()
        }),
        update_mask: None,
    };
    // Once more: a retry speaks of the rollout, too.
    for _ in 0..2 {
        let answer = admin.entries().update_entry(request.clone()).await.unwrap();
        assert_eq!(lagging(&answer), Vec::<String>::new());
        let at: i64 = answer
            .metadata()
            .get("chandlery-revision")
            .unwrap()
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        let rollout = answer.into_inner().rollout.unwrap();
        assert_eq!((rollout.moved, rollout.held, rollout.left), (0, 1, 0));
        let next = admin
            .created(
                &format!("next-{at}-{}", service_kit::random::uuid().simple())[..20],
                remote(),
            )
            .await;
        assert!(
            at < next.registry_revision,
            "{at} is not yet: {}",
            next.registry_revision
        );
    }
    stopped.abort();
    let _ended = (&mut stopped).await;
}

async fn goes_on_after_a_restart(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    let made = installed(&stack, &entry.name).await;
    let change = {
        let (admin, name) = (admin.clone(), entry.name.clone());
        tokio::spawn(async move {
            admin
                .update(at("https://new.example.com/mcp", &name), &["remote"])
                .await
        })
    };
    let mut current = entry.clone();
    while current.entry_revision == entry.entry_revision {
        current = admin.entry(&entry.name).await.unwrap();
    }
    assert!(current.rollout.unwrap().left > 0, "it is amid its work");
    // The caller is gone at once, and so is this replica.
    change.abort();
    let next = stack.succeed().await;
    let admin = next.admin();
    let current = admin.entry(&entry.name).await.unwrap();
    assert_eq!(current.entry_revision, 2);
    until_finished(&admin, &entry.name).await;
    for (_, installation) in &made {
        let read = admin.installation(&installation.name).await.unwrap();
        assert_eq!(read.running_entry_revision, current.entry_revision);
    }
}

async fn deletes_what_goes_with_an_entry(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    let made = installed(&stack, &entry.name).await;
    let request = DeleteEntryRequest {
        name: entry.name.clone(),
        force: true,
        ..Default::default()
    };
    admin.entries().delete_entry(request).await.unwrap();
    assert_eq!(admin.entry(&entry.name).await.unwrap_err().code(), Code::NotFound);
    let reports = |subject: report_cleanup_request::Subject| {
        let (mut credential, mut orchestrator) = (
            stack.reports(Workload::Credential),
            stack.reports(Workload::Orchestrator),
        );
        async move {
            let request = ReportCleanupRequest {
                subject: Some(subject),
                ..Default::default()
            };
            credential.report_cleanup(request.clone()).await?;
            orchestrator.report_cleanup(request).await
        }
    };
    for (person, installation) in &made {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while person
            .installation(&installation.name)
            .await
            .unwrap()
            .delete_time
            .is_none()
        {
            assert!(
                tokio::time::Instant::now() < deadline,
                "it is not deleted with its entry"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        reports(report_cleanup_request::Subject::InstallationUid(
            installation.uid.clone(),
        ))
        .await
        .unwrap();
        assert_eq!(
            person.installation(&installation.name).await.unwrap_err().code(),
            Code::NotFound
        );
    }
    reports(report_cleanup_request::Subject::EntryUid(entry.uid.clone()))
        .await
        .unwrap();
    // It is gone for good, and nothing of it is left on the watch.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !stack
        .watched(&[ObjectKind::Entry, ObjectKind::EntryRevision, ObjectKind::Installation])
        .await
        .is_empty()
    {
        assert!(tokio::time::Instant::now() < deadline, "something is left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn retires_revisions_that_nothing_runs(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let entry = admin.approved("time", remote()).await;
    let made = alice.install(&entry.name, None, &[]).await.unwrap();
    let requires = Entry {
        name: entry.name.clone(),
        install_fields: vec![field("token", InstallFieldType::Secret, true)],
        ..Default::default()
    };
    // Held at the first one.
    admin.update(requires, &["install_fields"]).await.unwrap();
    let keys = |objects: Vec<WatchedObject>| -> Vec<String> {
        let mut numbers: Vec<String> = objects
            .into_iter()
            .map(|object| object.key.rsplit('/').next().unwrap_or_default().to_owned())
            .collect();
        numbers.sort();
        numbers
    };
    assert_eq!(keys(stack.watched(&[ObjectKind::EntryRevision]).await), ["1", "2"]);
    let held = alice.installation(&made.name).await.unwrap();
    let request = UpdateInstallationRequest {
        installation: Some(Installation {
            name: held.name,
            ..Default::default()
        }),
        update_mask: None,
    };
    alice.installations().update_installation(request).await.unwrap();
    assert_eq!(keys(stack.watched(&[ObjectKind::EntryRevision]).await), ["2"]);
    let free = Entry {
        name: entry.name.clone(),
        ..Default::default()
    };
    admin.update(free, &["install_fields"]).await.unwrap();
    until_finished(&admin, &entry.name).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while keys(stack.watched(&[ObjectKind::EntryRevision]).await) != ["3"] {
        assert!(tokio::time::Instant::now() < deadline, "older ones are still watched");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // People still read them.
    let request = GetEntryRevisionRequest {
        name: format!("{}/revisions/1", entry.name),
    };
    assert!(alice.entries().get_entry_revision(request).await.is_ok());
}

async fn keeps_no_other_entry_waiting(stack: Stack) {
    let admin = stack.admin();
    let large = admin.approved("large", remote()).await;
    installed(&stack, &large.name).await;
    let small = admin.approved("small", remote()).await;
    let made = admin.install(&small.name, None, &[]).await.unwrap();
    // The large one is edited again and again, and never comes to its end.
    let busy = {
        let (admin, name) = (admin.clone(), large.name.clone());
        tokio::spawn(async move {
            for index in 0.. {
                let change = at(&format!("https://{index}.example.com/mcp"), &name);
                admin.update(change, &["remote"]).await.unwrap();
            }
        })
    };
    let changed = admin
        .update(at("https://new.example.com/mcp", &small.name), &["remote"])
        .await
        .unwrap();
    assert_eq!(until_finished(&admin, &small.name).await.moved, 1);
    assert!(!busy.is_finished(), "the large one is edited meanwhile");
    let moved = admin.installation(&made.name).await.unwrap();
    assert_eq!(moved.running_entry_revision, changed.entry_revision);
    busy.abort();
}

async fn frees_the_name_of_a_deleted_gateway_at_once(stack: Stack) {
    let admin = stack.admin();
    let first = admin.gateway("main", Gateway::default()).await.unwrap();
    let request = delete_gateway(&first.name);
    admin.gateways().delete_gateway(request).await.unwrap();
    let second = admin.gateway("main", Gateway::default()).await.unwrap();
    assert_ne!(second.uid, first.uid);
}
