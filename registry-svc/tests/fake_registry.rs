//! The fake registry, against which other services are tested, does what this one does: the same reports to both, and watchers see the same.

mod support;

use contracts::registry::{report_service_client::ReportServiceClient, watched_object::Object, *};
use registry_client::testing::{FakeRegistry, Objects, Watched};
use service_kit::{Workload, pipe::pipe, serve::serve};
use support::{
    watcher::{Watcher, start},
    *,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};

on_both_engines!(watchers_see_the_same_of_the_fake);

/// Kinds that both credential-svc and orchestrator-svc watch, and runtimes.
const KINDS: [ObjectKind; 4] = [
    ObjectKind::Entry,
    ObjectKind::EntryRevision,
    ObjectKind::Installation,
    ObjectKind::Runtime,
];

/// A registry, fake or real, as orchestrator-svc and credential-svc meet it.
struct Side {
    orchestrator: ReportServiceClient<Channel>,
    credential: ReportServiceClient<Channel>,
    watcher: Watcher,
}

impl Side {
    async fn new(channel: impl Fn(Workload) -> Channel) -> Self {
        let watcher = Watcher::over(channel(Workload::Orchestrator), start(&KINDS));
        Self {
            orchestrator: ReportServiceClient::new(channel(Workload::Orchestrator)),
            credential: ReportServiceClient::new(channel(Workload::Credential)),
            watcher: watcher.await.unwrap(),
        }
    }

    /// What is seen of each step.
    async fn reports(&mut self, uid: &str, entry_uid: &str) -> Vec<Vec<Change>> {
        let mut seen = Vec::new();
        let of_installation = || report_credential_request::Subject::InstallationUid(uid.to_owned());
        let of_entry = report_credential_request::Subject::EntryUid(entry_uid.to_owned());
        let gone = report_credential_request::Subject::InstallationUid(service_kit::random::uuid().to_string());

        self.credential
            .report_credential(credential(of_installation()))
            .await
            .unwrap();
        seen.push(self.changes().await);
        // Neither what was reported before nor what is about nothing makes a revision: the next one is the entry's.
        for unchanged in [of_installation(), gone] {
            let report = ReportCredentialRequest {
                observed_generation: 2,
                ..credential(unchanged)
            };
            self.credential.report_credential(report).await.unwrap();
        }
        self.credential.report_credential(credential(of_entry)).await.unwrap();
        seen.push(self.changes().await);

        let lease = self.acquire("a", 0, false).await.lease;
        let another = Some(RuntimeLease {
            holder: "b".to_owned(),
            epoch: 1,
        });
        let refused = self
            .orchestrator
            .report_runtime(runtime(uid, another))
            .await
            .unwrap_err();
        assert_eq!(reason(&refused), (Code::FailedPrecondition, "LEASE_LOST".to_owned()));
        self.orchestrator
            .report_runtime(runtime(uid, lease.clone()))
            .await
            .unwrap();
        seen.push(self.changes().await);
        self.orchestrator.report_runtime(runtime(uid, lease)).await.unwrap();
        seen
    }

    async fn acquire(&mut self, holder: &str, epoch: i64, replaces: bool) -> AcquireRuntimeLeaseResponse {
        let request = AcquireRuntimeLeaseRequest {
            holder: holder.to_owned(),
            epoch,
            replaces,
        };
        self.orchestrator
            .acquire_runtime_lease(request)
            .await
            .unwrap()
            .into_inner()
    }

    /// Whether each of these holds the lease, and which.
    async fn leases(&mut self) -> Vec<(bool, Option<RuntimeLease>)> {
        let mut answers = Vec::new();
        for (holder, epoch, replaces) in [
            ("b", 0, false),
            ("b", 1, false),
            ("a", 1, false),
            ("a", 0, false),
            ("a", 0, true),
        ] {
            let answer = self.acquire(holder, epoch, replaces).await;
            answers.push((answer.held, answer.lease));
        }
        let lease = answers.last().unwrap().1.clone();
        self.orchestrator
            .release_runtime_lease(ReleaseRuntimeLeaseRequest { lease })
            .await
            .unwrap();
        for (holder, epoch) in [("b", 0), ("a", 2)] {
            let answer = self.acquire(holder, epoch, false).await;
            answers.push((answer.held, answer.lease));
        }
        answers
    }

    /// What workloads are refused that report what is another's.
    async fn refusals(&mut self, uid: &str) -> Vec<Code> {
        let of_credential = report_credential_request::Subject::InstallationUid(uid.to_owned());
        vec![
            self.credential
                .report_runtime(runtime(uid, None))
                .await
                .unwrap_err()
                .code(),
            self.orchestrator
                .report_credential(credential(of_credential))
                .await
                .unwrap_err()
                .code(),
            self.credential
                .report_discovery(ReportDiscoveryRequest::default())
                .await
                .unwrap_err()
                .code(),
            self.orchestrator
                .report_token_use(ReportTokenUseRequest::default())
                .await
                .unwrap_err()
                .code(),
            self.credential
                .acquire_runtime_lease(AcquireRuntimeLeaseRequest::default())
                .await
                .unwrap_err()
                .code(),
        ]
    }

    /// The objects of a snapshot, sorted; of two kinds between which the contract has an order, that is held.
    async fn snapshot(&mut self) -> Vec<WatchedObject> {
        let (_, _, mut objects) = self.watcher.snapshot().await;
        let place = |is: fn(&Object) -> bool| objects.iter().position(|object| object.object.as_ref().is_some_and(is));
        let revision = place(|object| matches!(object, Object::EntryRevision(_)));
        assert!(revision < place(|object| matches!(object, Object::Installation(_))));
        objects.sort_by(|one, other| one.key.cmp(&other.key));
        objects.into_iter().map(normal).collect()
    }

    async fn changes(&mut self) -> Vec<Change> {
        let (_, changes) = self.watcher.acked_changes().await;
        let mut changes: Vec<Change> = changes
            .into_iter()
            .map(|change| match change.change {
                Some(change::Change::Put(object)) => Change {
                    change: Some(change::Change::Put(normal(object))),
                },
                removal => Change { change: removal },
            })
            .collect();
        changes.sort_by_key(|change| format!("{change:?}"));
        changes
    }
}

/// Without what the fake does not do: times, tags, and what follows from conditions.
fn normal(mut object: WatchedObject) -> WatchedObject {
    let plain = |conditions: &mut Vec<Condition>| conditions.iter_mut().for_each(|one| one.transition_time = None);
    match object.object.as_mut().unwrap() {
        Object::Entry(entry) => {
            plain(&mut entry.conditions);
            (entry.registry_revision, entry.update_time) = (0, None);
            entry.etag.clear();
        }
        Object::Installation(installation) => {
            plain(&mut installation.conditions);
            installation.set_state(InstallationState::Unspecified);
            (installation.registry_revision, installation.update_time) = (0, None);
            (installation.first_ready_time, installation.expire_time) = (None, None);
            installation.etag.clear();
        }
        Object::Runtime(runtime) => (runtime.registry_revision, runtime.transition_time) = (0, None),
        _ => {}
    }
    object
}

fn credential(subject: report_credential_request::Subject) -> ReportCredentialRequest {
    ReportCredentialRequest {
        subject: Some(subject),
        status: ConditionStatus::True.into(),
        reason: "STORED".to_owned(),
        observed_generation: 1,
        credential_generation: 1,
        ..ReportCredentialRequest::default()
    }
}

fn runtime(uid: &str, lease: Option<RuntimeLease>) -> ReportRuntimeRequest {
    ReportRuntimeRequest {
        subject: Some(report_runtime_request::Subject::InstallationUid(uid.to_owned())),
        state: RuntimeState::Running.into(),
        reason: "RUNNING".to_owned(),
        observed_generation: 2,
        endpoint: "unix:/a".to_owned(),
        spec_digest: "digest".to_owned(),
        replicas: 1,
        ready_replicas: 1,
        tool_list_changes: 3,
        lease,
        ..ReportRuntimeRequest::default()
    }
}

/// A fake with the same objects.
fn fake_of(objects: Vec<WatchedObject>) -> FakeRegistry {
    let fake = FakeRegistry::new();
    fake.change(|known| {
        for object in objects {
            let key = match object.object.unwrap() {
                Object::Entry(entry) => put(known, entry),
                Object::EntryRevision(revision) => put(known, revision),
                Object::Installation(installation) => put(known, installation),
                other => panic!("{other:?} was not made"),
            };
            assert_eq!(key, object.key, "the fake has the registry's keys");
        }
    });
    fake
}

fn put(objects: &mut Objects, object: impl Watched) -> String {
    let key = object.key();
    objects.put(object);
    key
}

async fn watchers_see_the_same_of_the_fake(stack: Stack) {
    let admin = stack.admin();
    let server = SelfHostedServer {
        command: "x".to_owned(),
        ..SelfHostedServer::default()
    };
    let entry = Entry {
        server: Some(entry::Server::SelfHosted(server)),
        ..Entry::default()
    };
    let entry = admin.approved("time", entry).await;
    let installation = admin.install(&entry.name, None, &[]).await.unwrap();

    let mut watcher = Watcher::start(&stack, Workload::Orchestrator, &KINDS).await;
    let fake = fake_of(watcher.snapshot().await.2);
    watcher.leave().await;
    let mut real = Side::new(|workload| stack.pipe(workload)).await;
    let mut faked = Side::new(|workload| {
        let (channel, listener) = pipe(workload);
        tokio::spawn(serve(fake.routes().prepare(), listener, CancellationToken::new()));
        channel
    })
    .await;
    assert_eq!(faked.snapshot().await, real.snapshot().await);
    let (uid, entry_uid) = (&installation.uid, &entry.uid);
    assert_eq!(faked.refusals(uid).await, real.refusals(uid).await);
    assert_eq!(faked.reports(uid, entry_uid).await, real.reports(uid, entry_uid).await);
    assert_eq!(faked.leases().await, real.leases().await);

    // Once it is deleted and the workloads have nothing left of it, it goes with its runtime.
    admin
        .installations()
        .delete_installation(delete_installation(&installation.name))
        .await
        .unwrap();
    fake.change(|objects| {
        let now = service_kit::Clock::System.now().into();
        objects.edit(uid, |installation: &mut Installation| {
            installation.delete_time = Some(now)
        })
    });
    for side in [&mut real, &mut faked] {
        side.changes().await;
        let subject = Some(report_cleanup_request::Subject::InstallationUid(uid.clone()));
        let lease = side.acquire("b", 3, false).await.lease;
        let request = ReportCleanupRequest { subject, lease };
        for reports in [&mut side.credential, &mut side.orchestrator] {
            reports.report_cleanup(request.clone()).await.unwrap();
        }
    }
    assert_eq!(faked.changes().await, real.changes().await);
}
