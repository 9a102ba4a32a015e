//! WatchService: a snapshot or a resumption, then every change in order.

use std::{pin::Pin, sync::Arc, time::Duration};

use contracts::registry::{
    Bookmark, Compacted, ObjectKind, SnapshotBegin, SnapshotEnd, SnapshotObjects, WatchRequest, WatchResponse,
    WatchStart, WatchedObject, watch_request, watch_response::Message, watch_service_server::WatchService,
};
use futures::Stream;
use prost::Message as _;
use service_kit::{Workload, identity};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Registry, propagation::Watcher};
use crate::{
    domain::Error,
    store::{changes, object},
};

/// A snapshot's objects are sent in messages of about this size.
const CHUNK: usize = 1 << 20;
/// Messages that may wait for a slow watcher; the registry then waits for it.
const IN_FLIGHT: usize = 16;
/// Without changes, a bookmark is sent after this time, so that the watcher knows it is not cut off.
const QUIET: Duration = Duration::from_secs(10);

/// The service.
#[derive(Debug)]
pub(super) struct WatchApi(pub(super) Arc<Registry>);

type Responses = mpsc::Sender<Result<WatchResponse, Status>>;

#[tonic::async_trait]
impl WatchService for WatchApi {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let workload = identity::require_workload(
            &request,
            &[Workload::Credential, Workload::Orchestrator, Workload::Gateway],
        )?;
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|request| request.message);
        let Some(watch_request::Message::Start(start)) = first else {
            return Err(Error::invalid("start", "must be the first message").into());
        };
        let kinds = kinds(&start)?;
        let watcher = self.0.propagation.connect(workload, kinds).await.map_err(Error::from)?;
        let (responses, outgoing) = mpsc::channel(IN_FLIGHT);
        let registry = Arc::clone(&self.0);
        tokio::spawn(async move {
            // Whoever ends first ends the other, and with it this watcher's share in propagation.
            let ended = tokio::select! {
                ended = send_all(&registry, &start, kinds, &responses) => ended,
                ended = hear_acks(&mut requests, &watcher) => ended,
                () = responses.closed() => Ok(()),
            };
            drop(watcher);
            if let Err(error) = ended {
                let _gone = responses.try_send(Err(error.into()));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

fn kinds(start: &WatchStart) -> Result<i64, Error> {
    let mut kinds = Vec::with_capacity(start.kinds.len());
    for (index, &kind) in start.kinds.iter().enumerate() {
        match ObjectKind::try_from(kind) {
            Ok(kind) if kind != ObjectKind::Unspecified => kinds.push(kind),
            _ => {
                return Err(Error::invalid(
                    &format!("start.kinds[{index}]"),
                    "must be a kind that can be watched",
                ));
            }
        }
    }
    Ok(object::bits(kinds))
}

async fn hear_acks(requests: &mut Streaming<WatchRequest>, watcher: &Watcher) -> Result<(), Error> {
    loop {
        match requests.message().await {
            Ok(Some(WatchRequest {
                message: Some(watch_request::Message::Ack(ack)),
            })) => {
                watcher.ack(ack.revision).await?;
            }
            Ok(Some(_)) => return Err(Error::invalid("message", "must be an ack after the start")),
            // A watcher that goes without a word is as gone as one that says so.
            Ok(None) | Err(_) => return Ok(()),
        }
    }
}

async fn send_all(registry: &Registry, start: &WatchStart, kinds: i64, responses: &Responses) -> Result<(), Error> {
    let db = &registry.db;
    let mut latest = db.latest();
    let mut position = start.resume_revision;
    if position <= 0 {
        position = send_snapshot(registry, kinds, responses).await?;
    } else if start.database_epoch != db.epoch() {
        send(responses, Message::Compacted(Compacted {})).await;
        return Ok(());
    }
    // What was resumed from is in force: a bookmark says that the watcher is up to date although nothing changed.
    let mut told = if start.resume_revision > 0 { -1 } else { position };
    loop {
        latest.mark_unchanged();
        let mut tx = db.read().await?;
        let next = changes::next(&mut tx, position, kinds).await?;
        drop(tx);
        let (batches, until) = match next {
            changes::Next::Compacted => {
                send(responses, Message::Compacted(Compacted {})).await;
                return Ok(());
            }
            changes::Next::Batches(batches, until) => (batches, until),
        };
        for batch in batches {
            told = batch.revision;
            send(responses, Message::Changes(batch)).await;
        }
        let moved = until > position;
        position = until;
        if moved {
            continue;
        }
        if told < position {
            told = position;
            send(responses, Message::Bookmark(Bookmark { revision: position })).await;
        }
        if tokio::time::timeout(QUIET, wait_beyond(&mut latest, position))
            .await
            .is_err()
        {
            send(responses, Message::Bookmark(Bookmark { revision: position })).await;
        }
    }
}

async fn wait_beyond(latest: &mut tokio::sync::watch::Receiver<i64>, position: i64) {
    // An error means that the database handle is gone, and with it the server.
    if latest.wait_for(|latest| *latest > position).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn send_snapshot(registry: &Registry, kinds: i64, responses: &Responses) -> Result<i64, Error> {
    let mut tx = registry.db.read().await?;
    let (revision, objects) = changes::snapshot(&mut tx, kinds).await?;
    drop(tx);
    let database_epoch = registry.db.epoch().to_owned();
    send(responses, Message::SnapshotBegin(SnapshotBegin { database_epoch })).await;
    let mut chunk: Vec<WatchedObject> = Vec::new();
    let mut size = 0;
    for object in objects {
        size += object.encoded_len();
        chunk.push(object);
        if size >= CHUNK {
            let objects = std::mem::take(&mut chunk);
            send(responses, Message::SnapshotObjects(SnapshotObjects { objects })).await;
            size = 0;
        }
    }
    if !chunk.is_empty() {
        send(responses, Message::SnapshotObjects(SnapshotObjects { objects: chunk })).await;
    }
    send(responses, Message::SnapshotEnd(SnapshotEnd { revision })).await;
    Ok(revision)
}

/// A watcher that has gone is noticed by the one who waits for `closed`.
async fn send(responses: &Responses, message: Message) {
    let _gone = responses.send(Ok(WatchResponse { message: Some(message) })).await;
}
