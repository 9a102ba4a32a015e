//! A watcher that does what a test says.

use std::time::Duration;

use contracts::registry::{watch_service_client::WatchServiceClient, *};
use service_kit::Workload;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use super::Stack;

/// Larger messages than this are not sent: 1 MiB and framing.
const LARGEST: usize = (1 << 20) + 64;

/// A watcher that acknowledges only when told to.
pub struct Watcher {
    pub instance: String,
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

/// What to watch, under a new name.
pub fn start(kinds: &[ObjectKind]) -> WatchStart {
    WatchStart {
        kinds: kinds.iter().map(|&kind| kind.into()).collect(),
        instance: service_kit::random::uuid().to_string(),
        ..WatchStart::default()
    }
}

impl Watcher {
    /// Asks for a snapshot.
    pub async fn start(stack: &Stack, workload: Workload, kinds: &[ObjectKind]) -> Self {
        Self::over(stack.pipe(workload), start(kinds)).await.unwrap()
    }

    /// Watches over a channel.
    pub async fn over(channel: Channel, start: WatchStart) -> Result<Self, Status> {
        let (requests, outgoing) = mpsc::channel(16);
        let instance = start.instance.clone();
        let message = Some(watch_request::Message::Start(start));
        requests.send(WatchRequest { message }).await.unwrap();
        let mut client = WatchServiceClient::new(channel).max_decoding_message_size(LARGEST);
        let responses = client.watch(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Self {
            instance,
            requests,
            responses,
        })
    }

    /// Goes on where a watcher was, under its name.
    pub async fn resume(
        stack: &Stack,
        workload: Workload,
        kinds: &[ObjectKind],
        instance: &str,
        (epoch, revision): (&str, i64),
    ) -> Self {
        let start = WatchStart {
            instance: instance.to_owned(),
            resume_revision: revision,
            database_epoch: epoch.to_owned(),
            ..start(kinds)
        };
        Self::over(stack.pipe(workload), start).await.unwrap()
    }

    /// `gateway-svc/NAME`.
    pub fn name(&self, workload: Workload) -> String {
        format!("{workload}/{}", self.instance)
    }

    /// `None`: the stream has ended.
    pub async fn next(&mut self) -> Option<watch_response::Message> {
        let next = tokio::time::timeout(Duration::from_secs(20), self.responses.message());
        next.await
            .expect("a message comes in time")
            .unwrap()
            .map(|response| response.message.unwrap())
    }

    /// Waits for the end of the stream. Its connection may go with it before that is read.
    pub async fn ends(&mut self) {
        let next = tokio::time::timeout(Duration::from_secs(20), self.responses.message());
        if let Ok(Some(message)) = next.await.expect("it ends in time") {
            panic!("{message:?} in place of an end");
        }
    }

    /// Epoch, revision and objects; acknowledged.
    pub async fn snapshot(&mut self) -> (String, i64, Vec<WatchedObject>) {
        let Some(watch_response::Message::SnapshotBegin(begin)) = self.next().await else {
            panic!("no snapshot")
        };
        let mut objects = Vec::new();
        loop {
            match self.next().await.unwrap() {
                watch_response::Message::SnapshotObjects(some) => objects.extend(some.objects),
                watch_response::Message::SnapshotEnd(end) => {
                    self.ack(end.revision).await;
                    return (begin.database_epoch, end.revision, objects);
                }
                other => panic!("{other:?} inside a snapshot"),
            }
        }
    }

    /// What the next revision changed, in however many parts it comes; not acknowledged. Bookmarks are passed over.
    pub async fn changes(&mut self) -> (i64, Vec<Change>) {
        let mut changes = Vec::new();
        loop {
            match self.next().await.unwrap() {
                watch_response::Message::Changes(batch) => {
                    assert!(changes.is_empty(), "a batch between parts");
                    return (batch.revision, batch.changes);
                }
                watch_response::Message::ChangePart(part) => {
                    changes.extend(part.changes);
                    if part.last {
                        return (part.revision, changes);
                    }
                }
                watch_response::Message::Bookmark(_) | watch_response::Message::Resumed(_) => {}
                other => panic!("{other:?} where changes should come"),
            }
        }
    }

    /// As [`Watcher::changes`], acknowledged.
    pub async fn acked_changes(&mut self) -> (i64, Vec<Change>) {
        let (revision, changes) = self.changes().await;
        self.ack(revision).await;
        (revision, changes)
    }

    /// Skips everything until the watcher has to start again.
    pub async fn compacted(&mut self) {
        loop {
            match self.next().await {
                Some(watch_response::Message::Compacted(_)) => break,
                Some(_) => {}
                None => panic!("the stream ended without a word"),
            }
        }
        assert!(self.next().await.is_none());
    }

    pub async fn ack(&self, revision: i64) {
        let message = Some(watch_request::Message::Ack(WatchAck { revision }));
        self.requests.send(WatchRequest { message }).await.unwrap();
    }

    /// Says goodbye, and waits until it was heard.
    pub async fn leave(self) {
        let Self {
            requests,
            mut responses,
            ..
        } = self;
        drop(requests);
        while let Ok(Some(_)) = responses.message().await {}
    }
}

/// A watcher in a separate process, which can be killed.
pub struct Process {
    runtime: Option<tokio::runtime::Runtime>,
    /// `gateway-svc/NAME`.
    pub name: String,
    pub instance: String,
}

impl Process {
    /// Watches as gateway-svc, and has acknowledged its snapshot.
    pub async fn start(stack: &Stack, start: WatchStart) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let channel = stack.pipe_from(&runtime, Workload::Gateway);
        let instance = start.instance.clone();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            let mut watcher = Watcher::over(channel, start).await.unwrap();
            watcher.snapshot().await;
            ready.send(()).unwrap();
            // Acknowledges nothing more, and says no goodbye.
            std::future::pending::<()>().await;
        });
        is_ready.await.unwrap();
        Self {
            runtime: Some(runtime),
            name: format!("{}/{instance}", Workload::Gateway),
            instance,
        }
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What some changes put.
pub fn puts(changes: &[Change]) -> Vec<&watched_object::Object> {
    changes
        .iter()
        .filter_map(|change| match change.change.as_ref().unwrap() {
            change::Change::Put(object) => object.object.as_ref(),
            change::Change::Remove(_) => None,
        })
        .collect()
}

/// What some changes remove.
pub fn removals(changes: &[Change]) -> Vec<(ObjectKind, &str)> {
    changes
        .iter()
        .filter_map(|change| match change.change.as_ref().unwrap() {
            change::Change::Remove(removal) => Some((removal.kind(), removal.key.as_str())),
            change::Change::Put(_) => None,
        })
        .collect()
}

/// The watchers that an answer says lag.
pub fn lagging<T>(response: &tonic::Response<T>) -> Vec<String> {
    let lagging = response.metadata().get("chandlery-lagging");
    let names = lagging.map(|names| names.to_str().unwrap().split(',').map(str::to_owned));
    names.into_iter().flatten().collect()
}
