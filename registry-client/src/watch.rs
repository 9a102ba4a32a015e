//! Follows registry-svc: receives a snapshot and then every change in order, and acknowledges each once it is in force.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use contracts::registry::{
    Change, ObjectKind, WatchAck, WatchRequest, WatchStart, WatchedObject, watch_request, watch_response,
    watch_service_client::WatchServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

/// The longest time between two bookmarks from registry-svc.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(10);
/// After this time without a message, registry-svc counts as unreachable even if the connection is open, since it may
/// be half open.
pub const SILENCE: Duration = Duration::from_secs(3 * BOOKMARK_INTERVAL.as_secs());

/// Keeps a copy of what is watched. When `snapshot_end` or `changes` returns, the change must be in force: only then is
/// it acknowledged, and the caller who waits for it continues.
pub trait Sink: Send {
    /// A snapshot begins. The previous state stays in force until it ends. If it is interrupted, another one follows.
    fn snapshot_begin(&mut self);
    /// Some objects of the snapshot. Definitions arrive before the sets that name them, and entry revisions before
    /// installations.
    fn snapshot_objects(&mut self, objects: Vec<WatchedObject>) -> impl Future<Output = ()> + Send;
    /// The snapshot is complete and replaces the previous state.
    fn snapshot_end(&mut self, revision: i64) -> impl Future<Output = ()> + Send;
    /// Applies all changes of one revision together.
    fn changes(&mut self, revision: i64, changes: Vec<Change>) -> impl Future<Output = ()> + Send;
    /// `true`: registry-svc is reachable and all its changes up to now are applied. `false`: it is unreachable.
    fn connected(&mut self, connected: bool);
}

/// The process that watches.
#[derive(Clone, Debug, Default)]
pub struct Watcher {
    /// Distinguishes this process from others of its workload; `WatchStart.instance`.
    pub instance: String,
    /// The address at which peers reach this process, for gateway-svc only; `WatchStart.address`.
    pub address: String,
}

/// Follows `kinds` (if empty, all that the workload may watch) until `stop` is cancelled. Reconnects after every
/// interruption.
pub async fn follow(
    registry: Channel,
    watcher: &Watcher,
    kinds: &[ObjectKind],
    sink: &mut impl Sink,
    stop: CancellationToken,
) {
    let mut position = Position::default();
    let mut backoff = delays();
    loop {
        let known = position.revision;
        let ended = tokio::select! {
            ended = follow_once(&registry, watcher, kinds, sink, &mut position) => ended,
            () = stop.cancelled() => return,
        };
        sink.connected(false);
        if position.revision != known {
            backoff = delays();
        }
        let delay = backoff.next().unwrap_or(Duration::from_secs(5));
        if let Err(status) = ended {
            tracing::warn!(error = %status.message(), retry.delay_ms = delay.as_millis(), "the watch on the registry ended");
        }
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn delays() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .with_jitter()
        .build()
}

#[derive(Default)]
struct Position {
    revision: i64,
    epoch: String,
}

async fn follow_once(
    registry: &Channel,
    watcher: &Watcher,
    kinds: &[ObjectKind],
    sink: &mut impl Sink,
    position: &mut Position,
) -> Result<(), Status> {
    let (requests, outgoing) = mpsc::channel(64);
    let start = WatchStart {
        kinds: kinds.iter().map(|&kind| kind.into()).collect(),
        resume_revision: position.revision,
        database_epoch: position.epoch.clone(),
        instance: watcher.instance.clone(),
        address: watcher.address.clone(),
    };
    send(&requests, watch_request::Message::Start(start)).await?;
    let mut client = WatchServiceClient::new(registry.clone());
    let outgoing = ReceiverStream::new(outgoing);
    let mut responses = timely(client.watch(outgoing)).await?.into_inner();
    // On a stream that resumes, the revision at which the missed changes end.
    let mut missed = None;
    // The epoch of a snapshot that has begun; the changes of a revision that arrives in parts.
    let mut snapshot: Option<String> = None;
    let mut parts: Option<(i64, Vec<Change>)> = None;
    while let Some(response) = timely(responses.message()).await? {
        let Some(message) = response.message else {
            // The message is from a newer registry-svc. It may have been a change, so only a new snapshot makes the
            // state complete.
            *position = Position::default();
            return Err(Status::internal(
                "registry-svc sent a message that this version does not understand",
            ));
        };
        // A revision in parts is complete only with its last part. Acknowledging anything before that would lose the
        // rest.
        if parts.is_some() && !matches!(message, watch_response::Message::ChangePart(_)) {
            return Err(out_of_order());
        }
        let revision = match message {
            watch_response::Message::SnapshotBegin(begin) => {
                snapshot = Some(begin.database_epoch);
                sink.snapshot_begin();
                continue;
            }
            watch_response::Message::SnapshotObjects(some) if snapshot.is_some() => {
                sink.snapshot_objects(some.objects).await;
                continue;
            }
            watch_response::Message::SnapshotObjects(_) => return Err(out_of_order()),
            watch_response::Message::SnapshotEnd(end) => {
                position.epoch = snapshot.take().ok_or_else(out_of_order)?;
                sink.snapshot_end(end.revision).await;
                end.revision
            }
            watch_response::Message::Changes(batch) => {
                sink.changes(batch.revision, batch.changes).await;
                batch.revision
            }
            watch_response::Message::ChangePart(part) => {
                let (revision, changes) = parts.get_or_insert_with(|| (part.revision, Vec::new()));
                if *revision != part.revision {
                    return Err(out_of_order());
                }
                changes.extend(part.changes);
                if !part.last {
                    continue;
                }
                let changes = std::mem::take(changes);
                parts = None;
                sink.changes(part.revision, changes).await;
                part.revision
            }
            watch_response::Message::Bookmark(bookmark) => bookmark.revision,
            watch_response::Message::Resumed(resumed) if missed.is_none() => {
                missed = Some(resumed.revision);
                if position.revision >= resumed.revision {
                    sink.connected(true);
                }
                continue;
            }
            watch_response::Message::Resumed(_) => return Err(out_of_order()),
            watch_response::Message::Compacted(_) => {
                *position = Position::default();
                return Ok(());
            }
        };
        position.revision = revision;
        if missed.is_none_or(|missed| revision >= missed) {
            sink.connected(true);
        }
        send(&requests, watch_request::Message::Ack(WatchAck { revision })).await?;
    }
    Ok(())
}

async fn timely<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(SILENCE, answer)
        .await
        .map_err(|_| Status::unavailable("registry-svc has sent no message for three bookmark intervals"))?
}

async fn send(requests: &mpsc::Sender<WatchRequest>, message: watch_request::Message) -> Result<(), Status> {
    let request = WatchRequest { message: Some(message) };
    requests
        .send(request)
        .await
        .map_err(|_| Status::unavailable("the stream has ended"))
}

fn out_of_order() -> Status {
    Status::internal("registry-svc sent objects outside a snapshot, or a part of another revision")
}
