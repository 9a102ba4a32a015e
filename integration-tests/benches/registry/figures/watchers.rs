//! Measures the memory of a registry in its own process while a hundred watchers connect at once, each of which
//! requires a snapshot.
//!
//! The port through which they are gateways is in the registry's process, so its buffers of a few MB count as the
//! registry's.

use std::time::{Duration, Instant};

use bytes::Buf as _;
use contracts::registry::{WatchRequest, WatchStart, watch_request};
use integration_tests::Result;
use prost::Message as _;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Endpoint,
};
use uuid::Uuid;

use crate::{
    child::Child,
    database::Engine,
    report::{Report, Wanted, say},
    stack::World,
};

const WATCHERS: usize = 100;
/// The timeout for all watchers. The memory peaks long before the last one is served.
const TIMEOUT: Duration = Duration::from_secs(180);

pub(crate) async fn measure(engine: Engine, world: &World<'_>, report: &mut Report) -> Result<()> {
    let registry = Child::registry(world.database, world.issuer.issuer()).await;
    let idle = registry.memory("VmRSS");
    let begin = Instant::now();
    let stop = CancellationToken::new();
    let (served, mut snapshots) = mpsc::channel(WATCHERS);
    let mut watching = JoinSet::new();
    for _ in 0..WATCHERS {
        let address = registry.address.clone();
        let served = served.clone();
        watching.spawn(stop.clone().run_until_cancelled_owned(watch(address, served)));
    }
    drop(served);
    let (mut count, mut bytes) = (0, 0);
    while let Ok(Some(size)) = tokio::time::timeout(TIMEOUT.saturating_sub(begin.elapsed()), snapshots.recv()).await {
        count += 1;
        bytes += size;
        if count == WATCHERS {
            break;
        }
    }
    let (elapsed, peak) = (begin.elapsed(), registry.memory("VmHWM"));
    stop.cancel();
    while let Some(ended) = watching.join_next().await {
        if let Some(Err(status)) = ended? {
            say(&format!("  a watcher ended: {status}"));
        }
    }
    say(&format!(
        "  {count} of {WATCHERS} watchers have their snapshot, of {:.1} MB each, after {:.1} s; the registry took {idle:.1} MB before, \
         and {:.1} MB after",
        bytes as f64 / count.max(1) as f64 / 1e6,
        elapsed.as_secs_f64(),
        registry.memory("VmRSS"),
    ));
    let what = format!("registry: most memory while {WATCHERS} watchers connect at once");
    report.figure(Some(engine), &what, peak, "MB", Wanted::AtMost(200.0));
    Ok(())
}

/// Watches everything that a gateway watches, and returns the size of the snapshot in bytes.
async fn watch(address: String, served: mpsc::Sender<usize>) -> Result<(), Status> {
    let unavailable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    let channel = Endpoint::from_shared(format!("http://{address}")).map_err(unavailable)?;
    let channel = channel.connect().await.map_err(unavailable)?;
    let (requests, mut outgoing) = mpsc::channel(4);
    let message = Some(watch_request::Message::Start(WatchStart {
        instance: Uuid::new_v4().to_string(),
        ..WatchStart::default()
    }));
    let ended = |_| Status::cancelled("the watch has ended");
    requests.send(WatchRequest { message }).await.map_err(ended)?;
    let outgoing = futures::stream::poll_fn(move |context| outgoing.poll_recv(context));
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(16 << 20);
    client.ready().await.map_err(unavailable)?;
    let path = http::uri::PathAndQuery::from_static("/chandlery.registry.v1.WatchService/Watch");
    let mut responses = client
        .streaming(Request::new(outgoing), path, Weighing)
        .await?
        .into_inner();
    let mut bytes = 0;
    while let Some(weighed) = responses.message().await? {
        bytes += weighed.bytes;
        if weighed.ends_snapshot {
            let _ = served.send(bytes).await;
        }
    }
    Ok(())
}

/// A codec that counts bytes without decoding them: decoding a hundred snapshots would take all processors.
struct Weighing;

struct Weighed {
    bytes: usize,
    ends_snapshot: bool,
}

impl Codec for Weighing {
    type Encode = WatchRequest;
    type Decode = Weighed;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Weighing {
    type Item = WatchRequest;
    type Error = Status;

    fn encode(&mut self, item: WatchRequest, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Weighing {
    type Item = Weighed;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Weighed>, Status> {
        /// The key of `WatchResponse.snapshot_end`.
        const SNAPSHOT_END: u8 = 3 << 3 | 2;
        let bytes = buffer.remaining();
        let ends_snapshot = buffer.chunk().first() == Some(&SNAPSHOT_END);
        buffer.advance(bytes);
        Ok(Some(Weighed { bytes, ends_snapshot }))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}
