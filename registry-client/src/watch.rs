//! Follows the registry: a snapshot, then every change in order, acknowledged once it is in force; for ever.

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

const MAX_MESSAGE: usize = 64 << 20;

/// What is kept of what is watched. A method's return means: it is in force. Only then is it acknowledged, and whoever waits
/// for the change goes on.
pub trait Sink: Send {
    /// Replaces all that was known.
    fn snapshot(&mut self, revision: i64, objects: Vec<WatchedObject>) -> impl Future<Output = ()> + Send;
    /// Applies what one revision changed, all together.
    fn changes(&mut self, revision: i64, changes: Vec<Change>) -> impl Future<Output = ()> + Send;
    /// The registry is in reach and everything up to now is known (`true`), or it is out of reach (`false`).
    fn connected(&mut self, connected: bool);
}

/// Follows `kinds` (all if empty) until `stop` is cancelled, through every interruption.
pub async fn follow(registry: Channel, kinds: &[ObjectKind], sink: &mut impl Sink, stop: CancellationToken) {
    let mut position = Position::default();
    let mut backoff = delays();
    loop {
        let known = position.revision;
        let ended = tokio::select! {
            ended = follow_once(&registry, kinds, sink, &mut position) => ended,
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
    kinds: &[ObjectKind],
    sink: &mut impl Sink,
    position: &mut Position,
) -> Result<(), Status> {
    let (requests, outgoing) = mpsc::channel(64);
    let start = WatchStart {
        kinds: kinds.iter().map(|&kind| kind.into()).collect(),
        resume_revision: position.revision,
        database_epoch: position.epoch.clone(),
    };
    send(&requests, watch_request::Message::Start(start)).await?;
    let mut client = WatchServiceClient::new(registry.clone()).max_decoding_message_size(MAX_MESSAGE);
    let mut responses = client.watch(ReceiverStream::new(outgoing)).await?.into_inner();
    let mut snapshot: Option<(String, Vec<WatchedObject>)> = None;
    while let Some(response) = responses.message().await? {
        let revision = match response.message {
            Some(watch_response::Message::SnapshotBegin(begin)) => {
                snapshot = Some((begin.database_epoch, Vec::new()));
                continue;
            }
            Some(watch_response::Message::SnapshotObjects(some)) => {
                let (_, objects) = snapshot.as_mut().ok_or_else(out_of_order)?;
                objects.extend(some.objects);
                continue;
            }
            Some(watch_response::Message::SnapshotEnd(end)) => {
                let (epoch, objects) = snapshot.take().ok_or_else(out_of_order)?;
                sink.snapshot(end.revision, objects).await;
                position.epoch = epoch;
                sink.connected(true);
                end.revision
            }
            Some(watch_response::Message::Changes(batch)) => {
                sink.changes(batch.revision, batch.changes).await;
                sink.connected(true);
                batch.revision
            }
            Some(watch_response::Message::Bookmark(bookmark)) => {
                sink.connected(true);
                bookmark.revision
            }
            Some(watch_response::Message::Compacted(_)) => {
                *position = Position::default();
                return Ok(());
            }
            None => continue,
        };
        position.revision = revision;
        send(&requests, watch_request::Message::Ack(WatchAck { revision })).await?;
    }
    Ok(())
}

async fn send(requests: &mpsc::Sender<WatchRequest>, message: watch_request::Message) -> Result<(), Status> {
    let request = WatchRequest { message: Some(message) };
    requests
        .send(request)
        .await
        .map_err(|_| Status::unavailable("the stream has ended"))
}

fn out_of_order() -> Status {
    Status::internal("registry-svc sent a snapshot's objects outside a snapshot")
}
