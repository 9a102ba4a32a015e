//! What watchers see of the changes people make: each revision whole.

mod support;

use contracts::registry::{watch_service_client::WatchServiceClient, watched_object::Object, *};
use service_kit::Workload;
use support::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

on_both_engines!(
    entries_change_with_their_installations,
    deletions_are_told,
    repointed_entries_make_a_new_generation
);

/// A watcher that acknowledges whatever it reads.
struct Watcher {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Watcher {
    async fn start(channel: Channel) -> Self {
        let (requests, outgoing) = mpsc::channel(8);
        let start = watch_request::Message::Start(WatchStart::default());
        requests.send(WatchRequest { message: Some(start) }).await.unwrap();
        let responses = WatchServiceClient::new(channel)
            .watch(ReceiverStream::new(outgoing))
            .await
            .unwrap()
            .into_inner();
        let mut watcher = Self { requests, responses };
        loop {
            match watcher.next().await {
                watch_response::Message::SnapshotEnd(end) => {
                    watcher.ack(end.revision).await;
                    return watcher;
                }
                watch_response::Message::SnapshotBegin(_) | watch_response::Message::SnapshotObjects(_) => {}
                other => panic!("{other:?} before the snapshot is whole"),
            }
        }
    }

    async fn next(&mut self) -> watch_response::Message {
        self.responses.message().await.unwrap().unwrap().message.unwrap()
    }

    async fn ack(&self, revision: i64) {
        let ack = watch_request::Message::Ack(WatchAck { revision });
        self.requests.send(WatchRequest { message: Some(ack) }).await.unwrap();
    }

    /// The changes of the next revision that has some.
    async fn changes(&mut self) -> (i64, Vec<Change>) {
        loop {
            match self.next().await {
                watch_response::Message::Changes(batch) => {
                    self.ack(batch.revision).await;
                    return (batch.revision, batch.changes);
                }
                watch_response::Message::Bookmark(bookmark) => self.ack(bookmark.revision).await,
                other => panic!("{other:?} after the snapshot"),
            }
        }
    }
}

fn puts(changes: &[Change]) -> (Vec<&Entry>, Vec<&WatchedInstallation>) {
    let (mut entries, mut installations) = (Vec::new(), Vec::new());
    for change in changes {
        if let Some(change::Change::Put(put)) = &change.change {
            match put.object.as_ref().unwrap() {
                Object::Entry(entry) => entries.push(entry),
                Object::Installation(installation) => installations.push(installation),
                _ => {}
            }
        }
    }
    (entries, installations)
}

async fn entries_change_with_their_installations(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let entry = admin.approved("time", remote()).await;
    alice.install(&entry.name, None, &[]).await.unwrap();
    let mut watcher = Watcher::start(stack.pipe(Workload::Gateway)).await;
    let change = Entry {
        name: entry.name.clone(),
        labels: map(&[("team", "ops")]),
        ..Default::default()
    };
    let updating = tokio::spawn(async move { admin.update(change, &["labels"]).await.unwrap() });
    let (revision, changes) = watcher.changes().await;
    let (entries, installations) = puts(&changes);
    assert_eq!((entries[0].entry_revision, entries[0].revision), (2, revision));
    let running = installations[0].running_entry.as_ref().unwrap();
    assert_eq!(running.labels, map(&[("team", "ops")]));
    let installation = installations[0].installation.as_ref().unwrap();
    assert_eq!(
        (
            installation.running_entry_revision,
            installation.generation,
            installation.revision
        ),
        (2, 1, revision)
    );
    assert_eq!(updating.await.unwrap().revision, revision);
}

async fn repointed_entries_make_a_new_generation(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let entry = admin.approved("time", remote()).await;
    alice.install(&entry.name, None, &[]).await.unwrap();
    let mut watcher = Watcher::start(stack.pipe(Workload::Credential)).await;
    let server = entry::Server::Remote(RemoteServer {
        url: "https://elsewhere.example.com/mcp".to_owned(),
    });
    let change = Entry {
        name: entry.name,
        server: Some(server.clone()),
        ..Default::default()
    };
    let updating = tokio::spawn(async move { admin.update(change, &["remote"]).await.unwrap() });
    let (_, changes) = watcher.changes().await;
    let (_, installations) = puts(&changes);
    assert_eq!(installations[0].installation.as_ref().unwrap().generation, 2);
    assert_eq!(installations[0].running_entry.as_ref().unwrap().server, Some(server));
    updating.await.unwrap();
}

async fn deletions_are_told(stack: Stack) {
    let (admin, alice) = (stack.admin(), stack.person("alice"));
    let entry = admin.approved("time", remote()).await;
    let installation = alice.install(&entry.name, None, &[]).await.unwrap();
    stack.discover(&installation, &["now"]).await;
    admin.gateway("default", Gateway::default()).await.unwrap();
    let assignment = ToolAssignment {
        entry: entry.name.clone(),
        tool: "now".to_owned(),
        ..Default::default()
    };
    let request = CreateToolAssignmentRequest {
        parent: "gateways/default".to_owned(),
        tool_assignment: Some(assignment),
        ..Default::default()
    };
    let assignment = admin
        .assignments()
        .create_tool_assignment(request)
        .await
        .unwrap()
        .into_inner();
    let mut watcher = Watcher::start(stack.pipe(Workload::Gateway)).await;
    let request = DeleteEntryRequest {
        name: entry.name,
        etag: String::new(),
        force: true,
    };
    let deleting = tokio::spawn(async move { admin.entries().delete_entry(request).await.unwrap() });
    let (_, changes) = watcher.changes().await;
    let (entries, installations) = puts(&changes);
    assert!(entries[0].delete_time.is_some());
    assert_eq!(
        installations[0].installation.as_ref().unwrap().state(),
        InstallationState::Deleting
    );
    let removed = changes.iter().find_map(|change| match &change.change {
        Some(change::Change::Remove(removal)) => Some((removal.kind(), removal.key.clone())),
        _ => None,
    });
    assert_eq!(removed, Some((ObjectKind::ToolAssignment, assignment.uid)));
    deleting.await.unwrap();
}
