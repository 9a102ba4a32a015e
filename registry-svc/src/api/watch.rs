//! WatchService, written by hand so that what is stored is relayed as the bytes it is (`operate/watch/relay.rs`).

use std::{convert::Infallible, sync::Arc, time::Duration};

use contracts::registry::{WatchRequest, watch_request, watch_service_server};
use futures::{TryStreamExt as _, stream::MapErr};
use service_kit::{Workload, identity::require_workload};
use tokio::time::timeout;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::{BoxFuture, Context, Poll, Service},
    server::{Grpc, NamedService, StreamingService},
};
use tonic_prost::ProstCodec;

use crate::{
    domain::Error,
    operate::{
        Registry,
        propagation::Watcher,
        watch::{End, Messages, Response as Relayed, Sender, Start, Streams, channel},
    },
};

/// The path of the only method.
const WATCH: &str = "/chandlery.registry.v1.WatchService/Watch";
/// A connection that ends takes both directions with it, but not at the same moment.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a watcher gets.
type Outgoing = MapErr<Messages, fn(Error) -> Status>;

/// The service.
#[derive(Clone, Debug)]
pub(super) struct WatchServer(Arc<Watches>);

#[derive(Debug)]
struct Watches {
    registry: Arc<Registry>,
    streams: Streams,
}

impl WatchServer {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        let streams = Streams::new(registry.db.clone());
        Self(Arc::new(Watches { registry, streams }))
    }
}

impl NamedService for WatchServer {
    const NAME: &'static str = watch_service_server::SERVICE_NAME;
}

impl Service<http::Request<Body>> for WatchServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = self.clone();
        Box::pin(async move {
            if request.uri().path() != WATCH {
                return Ok(Status::unimplemented("WatchService has one method: Watch").into_http());
            }
            let codec = ProstCodec::<Relayed, WatchRequest>::default();
            Ok(Grpc::new(codec).streaming(method, request).await)
        })
    }
}

impl StreamingService<WatchRequest> for WatchServer {
    type Response = Relayed;
    type ResponseStream = Outgoing;
    type Future = BoxFuture<Response<Outgoing>, Status>;

    fn call(&mut self, request: Request<Streaming<WatchRequest>>) -> Self::Future {
        let watches = Arc::clone(&self.0);
        Box::pin(watches.begin(request))
    }
}

impl Watches {
    async fn begin(self: Arc<Self>, request: Request<Streaming<WatchRequest>>) -> Result<Response<Outgoing>, Status> {
        let workload = require_workload(
            &request,
            &[Workload::Credential, Workload::Orchestrator, Workload::Gateway],
        )?;
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|request| request.message);
        let Some(watch_request::Message::Start(start)) = first else {
            return Err(Error::invalid("start", "must be the first message").into());
        };
        let start = Start::parse(workload, start)?;
        let propagation = &self.registry.propagation;
        let watcher = propagation
            .connect(start.name.clone(), start.kinds, start.address.clone())
            .await
            .map_err(Error::from)?;
        let (sender, messages) = channel();
        tokio::spawn(async move { self.run(&start, watcher, requests, sender).await });
        Ok(Response::new(messages.map_err(Status::from)))
    }

    /// Sends and hears until one of both ends.
    async fn run(&self, start: &Start, watcher: Watcher, mut requests: Streaming<WatchRequest>, sender: Sender) {
        let heard = tokio::select! {
            end = self.streams.run(start, &watcher, &sender) => {
                // Dropped without a goodbye, the watcher counts until it is back.
                if let End::Storage(error) = end {
                    sender.fail(error);
                }
                return;
            }
            () = watcher.superseded() => {
                tracing::info!(watch.watcher = %start.name, "a watch ends: a new stream has its name");
                return;
            }
            heard = hear(&mut requests, &watcher) => heard,
            () = sender.closed() => {
                // A call that was cancelled is a goodbye, a connection that broke is not.
                let heard = timeout(GOODBYE, hear(&mut requests, &watcher)).await;
                heard.unwrap_or(Heard::Nothing)
            }
        };
        match heard {
            Heard::Goodbye => watcher.leave().await,
            Heard::Nothing => {}
            Heard::Nonsense => sender.fail(Error::invalid("message", "must be an ack after the start")),
        }
    }
}

/// How the requests of a watcher end.
enum Heard {
    /// It has ended them, or cancelled the call.
    Goodbye,
    /// The connection is broken.
    Nothing,
    /// Something that is no ack.
    Nonsense,
}

async fn hear(requests: &mut Streaming<WatchRequest>, watcher: &Watcher) -> Heard {
    loop {
        match requests.message().await {
            Ok(Some(WatchRequest {
                message: Some(watch_request::Message::Ack(ack)),
            })) => watcher.ack(ack.revision),
            Ok(Some(_)) => return Heard::Nonsense,
            Ok(None) => return Heard::Goodbye,
            Err(_) => return Heard::Nothing,
        }
    }
}
