//! What the reconciler applies to a runtime, in named scenarios with the in-memory runtime. The registry and credential-svc are unreachable:
//! reports and secrets are tested in `tests/`.

mod shared;

use std::{sync::Arc, time::Duration};

use contracts::registry::{
    Condition, ConditionStatus, ConditionType, EntryRevision, EnvironmentVariableTarget, InstallField,
    InstallFieldType, Installation, NoCredential, RemoteServer, RuntimeLease, SelfHostedServer, StdioTransport,
    WatchedObject,
    entry_revision::{CredentialModel, Server},
    install_field::Target,
    self_hosted_server::Transport,
    watched_object::Object,
};
use futures::StreamExt as _;
use pretty_assertions::{assert_eq, assert_ne};
use prost_types::Timestamp;
use registry_client::watch::Sink as _;
use service_kit::Readiness;
use tokio::{sync::watch, time::timeout};
use tonic::transport::Endpoint;

use super::{
    context::Context,
    controller::Controller,
    desired::{Desired, EntryCredential, Owner},
    follow::Follower,
    report::Shown,
};
use crate::{
    domain::{
        runtime::Runtime as _,
        status::{State, Status},
    },
    runtime::memory::MemoryRuntime,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A controller with its runtime.
struct Reconciling {
    controller: Arc<Controller>,
    runtime: MemoryRuntime,
}

impl Reconciling {
    fn new() -> Self {
        let nowhere = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let runtime = MemoryRuntime::default();
        let runs = Arc::new(runtime.clone());
        let context = Context::new(nowhere.clone(), nowhere, runs, RuntimeLease::default());
        Self {
            controller: Arc::new(Controller::new(context)),
            runtime,
        }
    }

    fn put(&self, (installation, revision): &(Installation, EntryRevision)) {
        let desired = Desired {
            owner: Owner::Installation(Arc::new(installation.clone())),
            revision: Some(Arc::new(revision.clone())),
            entry: EntryCredential::default(),
        };
        self.controller.put("one", desired, Shown::default());
    }

    async fn until(&self, what: &str, condition: impl Fn(Option<&Status>) -> bool) -> Option<Status> {
        let mut observed = self.runtime.observe();
        let seen = async {
            loop {
                let status = self.runtime.status("one");
                if condition(status.as_ref()) {
                    return status;
                }
                observed.next().await.unwrap();
            }
        };
        let seen = timeout(PATIENCE, seen).await;
        seen.unwrap_or_else(|_| panic!("timed out waiting: {what}: {:?}", self.runtime.status("one")))
    }

    /// Delivers a snapshot that has only this.
    async fn restore(&self, follower: &mut Follower, (installation, revision): &(Installation, EntryRevision)) {
        let object = |key: &str, object| WatchedObject {
            key: key.to_owned(),
            object: Some(object),
        };
        let objects = vec![
            object("/1", Object::EntryRevision(revision.clone())),
            object("one", Object::Installation(installation.clone())),
        ];
        follower.snapshot_begin();
        follower.snapshot_objects(objects).await;
        follower.snapshot_end(1).await;
    }

    fn follower(&self) -> Follower {
        let (readiness, _) = watch::channel(Readiness::Ready);
        Follower::new(Arc::clone(&self.controller), readiness)
    }

    async fn running(&self, generation: i64) -> Status {
        let running = |status: Option<&Status>| {
            status.is_some_and(|status| status.state == State::Running && status.generation == generation)
        };
        self.until("it runs", running).await.unwrap()
    }

    async fn held(&self, reason: &str) -> Status {
        let held = |status: Option<&Status>| status.is_some_and(|status| status.reason == reason);
        self.until(reason, held).await.unwrap()
    }
}

fn self_hosted(fields: Vec<InstallField>) -> (Installation, EntryRevision) {
    let server = SelfHostedServer {
        command: "serve".to_owned(),
        transport: Some(Transport::Stdio(StdioTransport::default())),
        ..SelfHostedServer::default()
    };
    let revision = EntryRevision {
        number: 1,
        server: Some(Server::SelfHosted(server)),
        credential_model: Some(CredentialModel::NoCredential(NoCredential {})),
        install_fields: fields,
        ..EntryRevision::default()
    };
    let installation = Installation {
        uid: "one".to_owned(),
        running_entry_revision: 1,
        generation: 1,
        ..Installation::default()
    };
    (installation, revision)
}

fn variable(kind: InstallFieldType) -> InstallField {
    InstallField {
        key: "token".to_owned(),
        r#type: kind.into(),
        required: true,
        target: Some(Target::EnvironmentVariable(EnvironmentVariableTarget {
            name: "TOKEN".to_owned(),
        })),
        ..InstallField::default()
    }
}

fn credential(installation: &mut Installation, status: ConditionStatus) {
    installation.generation += 1;
    installation.conditions = vec![Condition {
        r#type: ConditionType::CredentialReady.into(),
        status: status.into(),
        ..Condition::default()
    }];
}

#[tokio::test]
async fn texts_restart_nothing_and_values_do() {
    let reconciling = Reconciling::new();
    let mut desired = self_hosted(vec![variable(InstallFieldType::String)]);
    reconciling.put(&desired);
    let held = reconciling.held("FIELD_REQUIRED").await;
    assert!(held.message.contains("token"), "{}", held.message);
    desired.0.values.insert("token".to_owned(), "a".to_owned());
    reconciling.put(&desired);
    let first = reconciling.running(1).await;
    desired.1.number = 2;
    desired.1.version = "2".to_owned();
    desired.0.generation = 2;
    reconciling.put(&desired);
    assert_eq!(reconciling.running(2).await.endpoint, first.endpoint);
    desired.0.values.insert("token".to_owned(), "b".to_owned());
    desired.0.generation = 3;
    reconciling.put(&desired);
    assert_ne!(reconciling.running(3).await.endpoint, first.endpoint);
    reconciling.controller.shut_down().await;
}

#[tokio::test]
async fn one_that_moves_away_and_comes_back_runs_again() {
    let reconciling = Reconciling::new();
    let mut desired = self_hosted(Vec::new());
    reconciling.put(&desired);
    reconciling.running(1).await;
    let here = desired.1.server.replace(Server::Remote(RemoteServer {
        url: "https://example.com".to_owned(),
        ..RemoteServer::default()
    }));
    desired.0.generation = 2;
    reconciling.put(&desired);
    let away = reconciling.held("NOT_SELF_HOSTED").await;
    assert!(away.endpoint.is_empty() && !away.expected);
    desired.1.server = here;
    desired.0.generation = 3;
    reconciling.put(&desired);
    reconciling.running(3).await;
    reconciling.controller.shut_down().await;
}

#[tokio::test]
async fn a_server_that_gets_secrets_waits_for_its_credential() {
    let reconciling = Reconciling::new();
    let mut desired = self_hosted(vec![variable(InstallFieldType::Secret)]);
    reconciling.put(&desired);
    reconciling.held("CREDENTIAL_PENDING").await;
    credential(&mut desired.0, ConditionStatus::False);
    reconciling.put(&desired);
    let required = reconciling.held("CREDENTIAL_REQUIRED").await;
    assert_eq!((required.state, required.generation), (State::Pending, 2));
    credential(&mut desired.0, ConditionStatus::True);
    reconciling.put(&desired);
    reconciling.held("CREDENTIAL_UNAVAILABLE").await;
    // The spec stays applied until credential-svc has reported.
    credential(&mut desired.0, ConditionStatus::Unknown);
    reconciling.put(&desired);
    credential(&mut desired.0, ConditionStatus::True);
    reconciling.put(&desired);
    reconciling.held("CREDENTIAL_UNAVAILABLE").await;
    reconciling.controller.shut_down().await;
}

#[tokio::test]
async fn what_runs_goes_on_until_its_revision_is_known() {
    let reconciling = Reconciling::new();
    let desired = self_hosted(Vec::new());
    reconciling.put(&desired);
    let first = reconciling.running(1).await;
    let unknown = Desired {
        owner: Owner::Installation(Arc::new(Installation {
            generation: 2,
            running_entry_revision: 2,
            ..desired.0.clone()
        })),
        revision: None,
        entry: EntryCredential::default(),
    };
    reconciling.controller.put("one", unknown, Shown::default());
    let known = Installation {
        generation: 3,
        ..desired.0
    };
    reconciling.put(&(known, desired.1));
    assert_eq!(reconciling.running(3).await.endpoint, first.endpoint);
    reconciling.controller.shut_down().await;
}

#[tokio::test]
async fn nothing_is_left_of_what_is_deleted_or_gone() {
    let reconciling = Reconciling::new();
    let mut desired = self_hosted(Vec::new());
    reconciling.put(&desired);
    reconciling.running(1).await;
    // The installation disappears from the registry, and returns before its reconciler has ended.
    for generation in 2..6 {
        reconciling.controller.remove("one");
        assert!(!reconciling.controller.reconciles("one"));
        desired.0.generation = generation;
        reconciling.put(&desired);
        assert!(reconciling.controller.reconciles("one"));
    }
    reconciling.running(5).await;
    desired.0.delete_time = DELETED;
    reconciling.put(&desired);
    reconciling.until("it is removed", |status| status.is_none()).await;
    reconciling.controller.shut_down().await;
}

const DELETED: Option<Timestamp> = Some(Timestamp { seconds: 1, nanos: 0 });

/// A cleanup that waits for the registry must not remove what a restored registry has again.
#[tokio::test]
async fn no_cleanup_is_left_of_what_a_restored_registry_has_again() {
    let reconciling = Reconciling::new();
    let (mut follower, mut desired) = (reconciling.follower(), self_hosted(Vec::new()));
    desired.0.delete_time = DELETED;
    reconciling.restore(&mut follower, &desired).await;
    assert!(!reconciling.controller.cleanups.is_empty());
    assert!(!reconciling.controller.reconciles("one"));
    // The same again is the same cleanup.
    reconciling.restore(&mut follower, &desired).await;
    assert!(!reconciling.controller.cleanups.is_empty());
    desired.0.delete_time = None;
    reconciling.restore(&mut follower, &desired).await;
    assert!(reconciling.controller.cleanups.is_empty());
    reconciling.running(1).await;
    reconciling.controller.shut_down().await;
}

/// As above, where a reconciler cleans up.
#[tokio::test]
async fn what_a_restored_registry_has_again_runs_again() {
    let reconciling = Reconciling::new();
    let (mut follower, mut desired) = (reconciling.follower(), self_hosted(Vec::new()));
    reconciling.restore(&mut follower, &desired).await;
    reconciling.running(1).await;
    desired.0.delete_time = DELETED;
    reconciling.restore(&mut follower, &desired).await;
    reconciling.until("it is removed", |status| status.is_none()).await;
    desired.0.delete_time = None;
    reconciling.restore(&mut follower, &desired).await;
    reconciling.running(1).await;
    reconciling.controller.shut_down().await;
}
