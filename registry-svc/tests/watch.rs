//! The watch and what workloads report, on both engines.

mod support;

use std::time::{Duration, Instant};

use contracts::registry::{access_service_client::AccessServiceClient, watch_service_client::WatchServiceClient, *};
use service_kit::Workload;
use support::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

on_both_engines!(
    begins_with_a_snapshot_and_goes_on_with_changes,
    resumes_where_it_was_left,
    refuses_to_resume_from_another_database,
    is_for_workloads_only,
    holds_a_mutation_back_until_it_is_acknowledged,
    names_who_lags,
    drops_stale_reports,
    seeds_the_tools_of_an_entry,
    removes_what_everybody_has_cleaned_up,
    answers_for_people_at_this_moment,
    expires_what_nobody_completes,
);

/// A watcher that acknowledges only when told to.
struct Watcher {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Watcher {
    async fn start(stack: &Stack, workload: Workload, kinds: &[ObjectKind], resume: i64, epoch: &str) -> Self {
        let (requests, outgoing) = mpsc::channel(16);
        let start = WatchStart {
            kinds: kinds.iter().map(|&kind| kind.into()).collect(),
            resume_revision: resume,
            database_epoch: epoch.to_owned(),
        };
        let message = Some(watch_request::Message::Start(start));
        requests.send(WatchRequest { message }).await.unwrap();
        let mut client = WatchServiceClient::new(stack.pipe(workload));
        let responses = client.watch(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        Self { requests, responses }
    }

    async fn next(&mut self) -> Option<watch_response::Message> {
        let next = tokio::time::timeout(Duration::from_secs(10), self.responses.message());
        next.await
            .expect("a message comes in time")
            .unwrap()
            .map(|response| response.message.unwrap())
    }

    /// Epoch, revision and objects.
    async fn snapshot(&mut self) -> (String, i64, Vec<WatchedObject>) {
        let Some(watch_response::Message::SnapshotBegin(begin)) = self.next().await else {
            panic!("no snapshot")
        };
        let mut objects = Vec::new();
        loop {
            match self.next().await.unwrap() {
                watch_response::Message::SnapshotObjects(some) => objects.extend(some.objects),
                watch_response::Message::SnapshotEnd(end) => return (begin.database_epoch, end.revision, objects),
                other => panic!("{other:?} inside a snapshot"),
            }
        }
    }

    /// The next batch; bookmarks are passed over.
    async fn batch(&mut self) -> ChangeBatch {
        loop {
            match self.next().await.unwrap() {
                watch_response::Message::Changes(batch) => return batch,
                watch_response::Message::Bookmark(_) => {}
                other => panic!("{other:?} where changes should come"),
            }
        }
    }

    async fn ack(&self, revision: i64) {
        let message = Some(watch_request::Message::Ack(WatchAck { revision }));
        self.requests.send(WatchRequest { message }).await.unwrap();
    }
}

fn puts(batch: &ChangeBatch) -> Vec<&watched_object::Object> {
    batch
        .changes
        .iter()
        .filter_map(|change| match change.change.as_ref().unwrap() {
            change::Change::Put(object) => object.object.as_ref(),
            change::Change::Remove(_) => None,
        })
        .collect()
}

fn removals(batch: &ChangeBatch) -> Vec<(ObjectKind, &str)> {
    batch
        .changes
        .iter()
        .filter_map(|change| match change.change.as_ref().unwrap() {
            change::Change::Remove(removal) => Some((removal.kind(), removal.key.as_str())),
            change::Change::Put(_) => None,
        })
        .collect()
}

async fn begins_with_a_snapshot_and_goes_on_with_changes(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    let installation = admin.install(&entry.name, None, &[]).await.unwrap();
    stack.discover(&installation, &["now", "later"]).await;
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[], 0, "").await;
    let (epoch, revision, objects) = watcher.snapshot().await;
    assert!(!epoch.is_empty());
    watcher.ack(revision).await;
    let kinds: Vec<_> = objects.iter().map(|object| object.object.as_ref().unwrap()).collect();
    assert_eq!(
        kinds
            .iter()
            .filter(|object| matches!(object, watched_object::Object::ToolDefinition(_)))
            .count(),
        2
    );
    assert_eq!(
        kinds
            .iter()
            .filter(|object| matches!(object, watched_object::Object::ToolSet(_)))
            .count(),
        2
    );
    let watched = kinds
        .iter()
        .find_map(|object| match object {
            watched_object::Object::Installation(installation) => Some(installation),
            _ => None,
        })
        .expect("the installation is there");
    assert_eq!(watched.running_entry.as_ref().unwrap().server, entry.server);
    assert_eq!(watched.installation.as_ref().unwrap().name, installation.name);

    let changing = tokio::spawn(async move {
        let entry = admin.entry("entries/time").await.unwrap();
        admin
            .update(
                Entry {
                    display_name: "Time".to_owned(),
                    ..entry
                },
                &["display_name"],
            )
            .await
            .unwrap()
    });
    let batch = watcher.batch().await;
    watcher.ack(batch.revision).await;
    let entry = changing.await.unwrap();
    assert_eq!(batch.revision, entry.revision);
    assert!(puts(&batch).contains(&&watched_object::Object::Entry(entry)));
}

async fn resumes_where_it_was_left(stack: Stack) {
    let admin = stack.admin();
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[ObjectKind::Entry], 0, "").await;
    let (epoch, revision, objects) = watcher.snapshot().await;
    assert!(objects.is_empty());
    drop(watcher);
    let first = admin.created("first", remote()).await;
    admin.gateway("main", Gateway::default()).await.unwrap();
    let second = admin.created("second", remote()).await;
    // Revision 0 always asks for a snapshot, so resume from the first change.
    let mut watcher = Watcher::start(
        &stack,
        Workload::Gateway,
        &[ObjectKind::Entry],
        revision.max(first.revision),
        &epoch,
    )
    .await;
    let batch = watcher.batch().await;
    assert_eq!(batch.revision, second.revision);
    assert_eq!(puts(&batch), [&watched_object::Object::Entry(second)]);
}

async fn refuses_to_resume_from_another_database(stack: Stack) {
    stack.admin().created("first", remote()).await;
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[], 1, "another").await;
    assert!(matches!(
        watcher.next().await,
        Some(watch_response::Message::Compacted(_))
    ));
    assert!(watcher.next().await.is_none());
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[], 0, "").await;
    let (epoch, ..) = watcher.snapshot().await;
    // A revision that is still to come is of a database that was restored.
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[], 1_000, &epoch).await;
    assert!(matches!(
        watcher.next().await,
        Some(watch_response::Message::Compacted(_))
    ));
}

async fn is_for_workloads_only(stack: Stack) {
    let admin = stack.admin();
    let (requests, outgoing) = mpsc::channel(1);
    let message = Some(watch_request::Message::Start(WatchStart::default()));
    requests.send(WatchRequest { message }).await.unwrap();
    let refused = admin.watch().watch(ReceiverStream::new(outgoing)).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::PermissionDenied, "WORKLOADS_ONLY".to_owned()));
    let report = ReportCleanupRequest { subject: None };
    let refused = stack
        .reports(Workload::Gateway)
        .report_cleanup(report)
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), (Code::PermissionDenied, "WORKLOADS_ONLY".to_owned()));
}

async fn holds_a_mutation_back_until_it_is_acknowledged(stack: Stack) {
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[ObjectKind::Entry], 0, "").await;
    let (_, revision, _) = watcher.snapshot().await;
    watcher.ack(revision).await;
    let admin = stack.admin();
    let mut creating = tokio::spawn(async move {
        let request = CreateEntryRequest {
            entry_id: "time".to_owned(),
            entry: Some(remote()),
            ..Default::default()
        };
        admin.entries().create_entry(request).await.unwrap()
    });
    let batch = watcher.batch().await;
    assert!(
        tokio::time::timeout(Duration::from_millis(200), &mut creating)
            .await
            .is_err()
    );
    watcher.ack(batch.revision).await;
    let created = creating.await.unwrap();
    assert!(created.metadata().get("chandlery-lagging").is_none());
    assert_eq!(
        created.metadata().get("chandlery-revision").unwrap(),
        &batch.revision.to_string()
    );
    // What it does not watch does not wait for it.
    let began = Instant::now();
    stack.admin().gateway("main", Gateway::default()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1));
}

async fn names_who_lags(stack: Stack) {
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[], 0, "").await;
    watcher.snapshot().await;
    let request = CreateEntryRequest {
        entry_id: "time".to_owned(),
        entry: Some(remote()),
        ..Default::default()
    };
    let created = stack.admin().entries().create_entry(request).await.unwrap();
    assert_eq!(created.metadata().get("chandlery-lagging").unwrap(), "gateway-svc");
    // Once it has gone, nobody waits for it.
    drop(watcher);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(30) {
        let team = Gateway::default();
        let slug = format!("g{}", began.elapsed().as_millis());
        let request = CreateGatewayRequest {
            gateway_id: slug,
            gateway: Some(team),
            ..Default::default()
        };
        let created = stack.admin().gateways().create_gateway(request).await.unwrap();
        if created.metadata().get("chandlery-lagging").is_none() {
            return;
        }
    }
    panic!("a watcher that has gone still counts");
}

fn credential(
    installation: &Installation,
    status: ConditionStatus,
    reason: &str,
    observed: i64,
    put: i64,
) -> ReportConditionRequest {
    ReportConditionRequest {
        installation_uid: installation.uid.clone(),
        status: status.into(),
        reason: reason.to_owned(),
        observed_generation: observed,
        credential_generation: put,
        ..ReportConditionRequest::default()
    }
}

async fn drops_stale_reports(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    let installation = admin.install(&entry.name, None, &[]).await.unwrap();
    assert_eq!(installation.state(), InstallationState::Pending);
    let mut reports = stack.reports(Workload::Credential);
    let missing = credential(&installation, ConditionStatus::False, "CREDENTIAL_REQUIRED", 1, 0);
    reports.report_condition(missing.clone()).await.unwrap();
    let pending = admin.installation(&installation.name).await.unwrap();
    assert_eq!(pending.state(), InstallationState::Pending);
    assert_eq!(pending.etag, installation.etag);
    reports
        .report_condition(credential(&installation, ConditionStatus::True, "STORED", 1, 1))
        .await
        .unwrap();
    let stored = admin.installation(&installation.name).await.unwrap();
    assert_eq!(
        (stored.credential_generation, stored.generation),
        (1, installation.generation + 1)
    );
    reports
        .report_condition(credential(
            &installation,
            ConditionStatus::True,
            "STORED",
            stored.generation,
            1,
        ))
        .await
        .unwrap();
    reports.report_condition(missing).await.unwrap();
    let still = admin.installation(&installation.name).await.unwrap();
    assert_eq!(still.conditions[0].reason, "STORED");
    assert_eq!(still.conditions[0].observed_generation, stored.generation);
    stack.discover(&still, &["now"]).await;
    let ready = admin.installation(&installation.name).await.unwrap();
    assert_eq!(ready.state(), InstallationState::Ready);
    assert!(ready.first_ready_time.is_some() && ready.expire_time.is_none());
    // A report again changes nothing; one of an installation that is gone is no error.
    stack.discover(&still, &["now"]).await;
    assert_eq!(
        admin.installation(&installation.name).await.unwrap().revision,
        ready.revision
    );
    let gone = Installation {
        uid: "gone".to_owned(),
        ..installation
    };
    reports
        .report_condition(credential(&gone, ConditionStatus::True, "STORED", 1, 1))
        .await
        .unwrap();
    let nonsense = ReportConditionRequest {
        reason: "not upper".to_owned(),
        ..Default::default()
    };
    let refused = reports.report_condition(nonsense).await.unwrap_err();
    assert_eq!(fields(&refused), ["status", "reason"]);
}

async fn tools_of(person: &Person, entry: &str) -> Vec<String> {
    let request = ListEntryToolsRequest {
        parent: entry.to_owned(),
        ..Default::default()
    };
    let tools = person
        .entries()
        .list_entry_tools(request)
        .await
        .unwrap()
        .into_inner()
        .tools;
    tools.into_iter().map(|tool| tool.tool).collect()
}

async fn seeds_the_tools_of_an_entry(stack: Stack) {
    let admin = stack.admin();
    let (alice, bob) = (stack.person("alice"), stack.person("bob"));
    let entry = admin.approved("time", remote()).await;
    assert!(tools_of(&alice, &entry.name).await.is_empty());
    let of_alice = alice.install(&entry.name, None, &[]).await.unwrap();
    stack.discover(&of_alice, &["now"]).await;
    assert_eq!(tools_of(&bob, &entry.name).await, ["now"]);
    let of_bob = bob.install(&entry.name, None, &[]).await.unwrap();
    stack.discover(&of_bob, &["now", "secret"]).await;
    assert_eq!(tools_of(&alice, &entry.name).await, ["now"]);
    let request = ListInstallationToolsRequest {
        parent: of_bob.name.clone(),
        ..Default::default()
    };
    let own = bob
        .installations()
        .list_installation_tools(request)
        .await
        .unwrap()
        .into_inner()
        .tools;
    assert_eq!(own.len(), 2);
    let of_admin = admin.install(&entry.name, None, &[]).await.unwrap();
    stack.discover(&of_admin, &["later", "now"]).await;
    assert_eq!(tools_of(&alice, &entry.name).await, ["later", "now"]);
    let twice = ReportToolsRequest {
        installation_uid: of_admin.uid,
        observed_generation: 1,
        tools: vec![
            Tool {
                tool: "a".to_owned(),
                definition_json: "{".to_owned(),
                ..Default::default()
            };
            2
        ],
    };
    let refused = stack.reports(Workload::Gateway).report_tools(twice).await.unwrap_err();
    assert_eq!(
        fields(&refused),
        ["tools[0].definition_json", "tools[1].tool", "tools[1].definition_json"]
    );
}

async fn removes_what_everybody_has_cleaned_up(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    let installation = admin.install(&entry.name, None, &[]).await.unwrap();
    stack.discover(&installation, &["now"]).await;
    let clean = |uid: &str| ReportCleanupRequest {
        subject: Some(report_cleanup_request::Subject::InstallationUid(uid.to_owned())),
    };
    let refused = stack
        .reports(Workload::Credential)
        .report_cleanup(clean(&installation.uid))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let request = DeleteEntryRequest {
        name: entry.name.clone(),
        force: true,
        ..Default::default()
    };
    admin.entries().delete_entry(request).await.unwrap();
    // The slug is free at once, and the new entry has nothing of the old one.
    let again = admin.approved("time", remote()).await;
    assert_ne!(again.uid, entry.uid);
    assert!(tools_of(&admin, &again.name).await.is_empty());
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[], 0, "").await;
    let (_, _, objects) = watcher.snapshot().await;
    assert!(objects.iter().any(|object| object.key == installation.uid));
    stack
        .reports(Workload::Credential)
        .report_cleanup(clean(&installation.uid))
        .await
        .unwrap();
    let clean_entry = ReportCleanupRequest {
        subject: Some(report_cleanup_request::Subject::EntryUid(entry.uid.clone())),
    };
    for workload in [Workload::Credential, Workload::Orchestrator] {
        stack
            .reports(workload)
            .report_cleanup(clean_entry.clone())
            .await
            .unwrap();
    }
    stack
        .reports(Workload::Orchestrator)
        .report_cleanup(clean(&installation.uid))
        .await
        .unwrap();
    let batch = watcher.batch().await;
    let gone = removals(&batch);
    for expected in [
        (ObjectKind::Installation, installation.uid.as_str()),
        (ObjectKind::Entry, entry.uid.as_str()),
        (ObjectKind::ToolSet, installation.uid.as_str()),
        (ObjectKind::ToolSet, entry.uid.as_str()),
    ] {
        assert!(gone.contains(&expected), "{expected:?} is not in {gone:?}");
    }
    assert!(gone.iter().any(|(kind, _)| *kind == ObjectKind::ToolDefinition));
    stack
        .reports(Workload::Orchestrator)
        .report_cleanup(clean(&installation.uid))
        .await
        .unwrap();
}

async fn answers_for_people_at_this_moment(stack: Stack) {
    let admin = stack.admin();
    let alice = stack.person("alice");
    let entry = admin.approved("time", remote()).await;
    let installation = alice.install(&entry.name, None, &[]).await.unwrap();
    let mut access = AccessServiceClient::new(stack.pipe(Workload::Credential));
    let principal = |subject: &str, admin: bool| {
        Some(Principal {
            issuer: stack.issuer.issuer().to_owned(),
            subject: subject.to_owned(),
            admin,
            ..Default::default()
        })
    };
    let ask = |principal, action: AccessAction| AuthorizeInstallationRequest {
        installation: installation.name.clone(),
        principal,
        action: action.into(),
    };
    let allowed = access
        .authorize_installation(ask(principal("alice", false), AccessAction::Manage))
        .await
        .unwrap();
    assert_eq!(
        allowed.into_inner().installation.unwrap().installation.unwrap().uid,
        installation.uid
    );
    let refused = access
        .authorize_installation(ask(principal("bob", false), AccessAction::Read))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned()));
    let entry_access = |principal| AuthorizeEntryRequest {
        entry: entry.name.clone(),
        principal,
        action: AccessAction::Manage.into(),
    };
    access
        .authorize_entry(entry_access(principal("root", true)))
        .await
        .unwrap();
    let refused = access
        .authorize_entry(entry_access(principal("alice", false)))
        .await
        .unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
    );
    let refused = access
        .authorize_entry(AuthorizeEntryRequest::default())
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
    let request = DeactivateUserRequest {
        name: alice.user.clone(),
    };
    admin.users().deactivate_user(request).await.unwrap();
    let refused = access
        .authorize_installation(ask(principal("alice", false), AccessAction::Read))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), (Code::Unauthenticated, "USER_DEACTIVATED".to_owned()));
}

async fn expires_what_nobody_completes(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    let pending = admin.install(&entry.name, None, &[]).await.unwrap();
    let mut watcher = Watcher::start(&stack, Workload::Gateway, &[ObjectKind::Installation], 0, "").await;
    let (_, revision, _) = watcher.snapshot().await;
    watcher.ack(revision).await;
    stack.clock.advance(A_DAY + Duration::from_secs(1));
    let batch = watcher.batch().await;
    let [watched_object::Object::Installation(watched)] = puts(&batch)[..] else {
        panic!("{batch:?}")
    };
    let installation = watched.installation.as_ref().unwrap();
    assert_eq!(
        (installation.uid.as_str(), installation.state()),
        (pending.uid.as_str(), InstallationState::Deleting)
    );
}
