//! One server for all installations of an entry, as the watch brings them.

use contracts::registry::{Change, Entry, ObjectKind, Removal, StreamableHttpTransport, Tenancy, change::Change as Of};
use pretty_assertions::{assert_eq, assert_ne};

use super::*;

/// The server of the entry `e`, and whoever follows the watch.
struct Shared {
    reconciling: Reconciling,
    follower: Follower,
}

fn put(key: &str, object: Object) -> Change {
    Change {
        change: Some(Of::Put(WatchedObject {
            key: key.to_owned(),
            object: Some(object),
        })),
    }
}

fn revision(number: i64, tenancy: Tenancy, argument: &str) -> Change {
    let transport = StreamableHttpTransport {
        tenancy: tenancy.into(),
        ..StreamableHttpTransport::default()
    };
    let server = SelfHostedServer {
        command: "serve".to_owned(),
        arguments: vec![argument.to_owned()],
        transport: Some(Transport::StreamableHttp(transport)),
        ..SelfHostedServer::default()
    };
    let revision = EntryRevision {
        entry_uid: "e".to_owned(),
        number,
        server: Some(Server::SelfHosted(server)),
        credential_model: Some(CredentialModel::NoCredential(NoCredential {})),
        ..EntryRevision::default()
    };
    put(&format!("e/{number}"), Object::EntryRevision(revision))
}

fn entry(entry_revision: i64, delete_time: Option<Timestamp>) -> Change {
    let entry = Entry {
        uid: "e".to_owned(),
        entry_revision,
        delete_time,
        ..Entry::default()
    };
    put("e", Object::Entry(entry))
}

fn installed(uid: &str, running_entry_revision: i64, delete_time: Option<Timestamp>) -> Change {
    let installation = Installation {
        uid: uid.to_owned(),
        entry_uid: "e".to_owned(),
        running_entry_revision,
        generation: running_entry_revision,
        delete_time,
        ..Installation::default()
    };
    put(uid, Object::Installation(installation))
}

impl Shared {
    async fn new() -> Self {
        let reconciling = Reconciling::new();
        let follower = reconciling.follower();
        let mut shared = Self { reconciling, follower };
        shared
            .changes([revision(1, Tenancy::Shared, "1"), entry(1, None)])
            .await;
        shared
    }

    async fn changes<const N: usize>(&mut self, changes: [Change; N]) {
        self.follower.changes(1, changes.into()).await;
    }

    /// Waits for the status of an owner.
    async fn until(&self, owner: &str, what: &str, condition: impl Fn(Option<&Status>) -> bool) -> Option<Status> {
        let runtime = &self.reconciling.runtime;
        let mut observed = runtime.observe();
        let seen = async {
            while !condition(runtime.status(owner).as_ref()) {
                observed.next().await.unwrap();
            }
            runtime.status(owner)
        };
        let seen = timeout(PATIENCE, seen).await;
        seen.unwrap_or_else(|_| panic!("timed out waiting: {what}: {:?}", runtime.status(owner)))
    }

    /// The endpoint of an owner's server, which runs for this generation.
    async fn endpoint(&self, owner: &str, generation: i64) -> String {
        let runs = |status: Option<&Status>| {
            status.is_some_and(|status| status.state == State::Running && status.generation == generation)
        };
        self.until(owner, "it runs", runs).await.unwrap().endpoint
    }

    async fn held(&self, owner: &str, reason: &str) {
        let held = |status: Option<&Status>| status.is_some_and(|status| status.reason == reason);
        let status = self.until(owner, reason, held).await.unwrap();
        assert!(status.endpoint.is_empty() && !status.expected);
    }

    async fn end(self) {
        self.reconciling.controller.shut_down().await;
    }
}

#[tokio::test]
async fn runs_from_the_first_installation_to_the_last() {
    let mut shared = Shared::new().await;
    shared.held("e", "NOT_INSTALLED").await;
    shared.changes([installed("a", 1, None), installed("b", 1, None)]).await;
    let first = shared.endpoint("e", 1).await;
    assert!(shared.reconciling.runtime.status("a").is_none());
    shared.changes([installed("a", 1, DELETED)]).await;
    let gone = Removal {
        kind: ObjectKind::Installation.into(),
        key: "a".to_owned(),
    };
    shared
        .changes([Change {
            change: Some(Of::Remove(gone)),
        }])
        .await;
    assert_eq!(shared.endpoint("e", 1).await, first);
    shared.changes([installed("b", 1, DELETED)]).await;
    shared.held("e", "NOT_INSTALLED").await;
    shared.changes([installed("c", 1, None)]).await;
    assert_ne!(shared.endpoint("e", 1).await, first);
    shared.changes([entry(1, DELETED)]).await;
    shared.until("e", "it is removed", |status| status.is_none()).await;
    shared.end().await;
}

/// It is one process at any time; the gateway knows by the generation whom it may serve.
#[tokio::test]
async fn runs_the_current_revision_wherever_the_installations_are() {
    let mut shared = Shared::new().await;
    shared.changes([installed("a", 1, None)]).await;
    let first = shared.endpoint("e", 1).await;
    shared
        .changes([revision(2, Tenancy::Shared, "1"), entry(2, None)])
        .await;
    assert_eq!(shared.endpoint("e", 2).await, first, "the same runs");
    shared
        .changes([revision(3, Tenancy::Shared, "3"), entry(3, None)])
        .await;
    assert_ne!(shared.endpoint("e", 3).await, first);
    shared.changes([installed("a", 3, None)]).await;
    shared.endpoint("e", 3).await;
    shared.end().await;
}

#[tokio::test]
async fn an_entry_that_changes_its_tenancy_takes_the_servers_along() {
    let mut shared = Shared::new().await;
    shared.changes([installed("a", 1, None)]).await;
    shared.endpoint("e", 1).await;
    shared
        .changes([revision(2, Tenancy::OnePerInstallation, "1"), entry(2, None)])
        .await;
    shared.held("e", "NOT_SHARED").await;
    shared.changes([installed("a", 2, None)]).await;
    shared.endpoint("a", 2).await;
    shared
        .changes([revision(3, Tenancy::Shared, "1"), entry(3, None)])
        .await;
    shared.held("e", "NOT_INSTALLED").await;
    shared.endpoint("a", 2).await;
    shared.changes([installed("a", 3, None)]).await;
    shared.endpoint("e", 3).await;
    shared.held("a", "SHARED").await;
    shared.end().await;
}

/// What a restored registry has, and what it has no more.
#[tokio::test]
async fn a_snapshot_says_all() {
    let mut shared = Shared::new().await;
    let snapshot = |changes: Vec<Change>| -> Vec<WatchedObject> {
        let object = |change: Change| match change.change {
            Some(Of::Put(object)) => object,
            other => panic!("{other:?}"),
        };
        changes.into_iter().map(object).collect()
    };
    let alone = || vec![revision(1, Tenancy::Shared, "1"), entry(1, None)];
    let with_one = || [alone(), vec![installed("a", 1, None)]].concat();
    for objects in [with_one(), with_one()] {
        shared.follower.snapshot_begin();
        shared.follower.snapshot_objects(snapshot(objects)).await;
        shared.follower.snapshot_end(1).await;
        shared.endpoint("e", 1).await;
    }
    shared.follower.snapshot_begin();
    shared.follower.snapshot_objects(snapshot(alone())).await;
    shared.follower.snapshot_end(2).await;
    shared.held("e", "NOT_INSTALLED").await;
    shared.follower.snapshot_begin();
    shared.follower.snapshot_end(3).await;
    shared.until("e", "it is stopped", |status| status.is_none()).await;
    shared.end().await;
}
