//! The fake WatchService.

use contracts::registry::{
    SnapshotBegin, SnapshotEnd, SnapshotObjects, WatchRequest, WatchResponse, watch_request, watch_response::Message,
    watch_service_server::WatchService,
};
use service_kit::{Workload, identity::require_workload};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{FakeRegistry, registry::State};

/// The number of objects in one message. It is small, so that a test with a larger snapshot gets several messages.
const PART: usize = 500;

#[tonic::async_trait]
impl WatchService for FakeRegistry {
    type WatchStream = UnboundedReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        require_workload(
            &request,
            &[Workload::Credential, Workload::Orchestrator, Workload::Gateway],
        )?;
        let mut requests = request.into_inner();
        let responses = self.lock().watch();
        let registry = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if let Some(watch_request::Message::Ack(ack)) = request.message {
                    let mut state = registry.lock();
                    state.acked = state.acked.max(ack.revision);
                    drop(state);
                    registry.tick();
                }
            }
        });
        Ok(Response::new(responses))
    }
}

impl State {
    /// Returns a snapshot followed by every change.
    fn watch(&mut self) -> UnboundedReceiverStream<Result<WatchResponse, Status>> {
        let objects = self.objects.snapshot();
        let parts = objects
            .chunks(PART)
            .map(|part| Message::SnapshotObjects(SnapshotObjects { objects: part.to_vec() }));
        let begin = Message::SnapshotBegin(SnapshotBegin {
            database_epoch: "fake".to_owned(),
        });
        let end = Message::SnapshotEnd(SnapshotEnd {
            revision: self.objects.revision(),
        });
        let (sender, receiver) = mpsc::unbounded_channel();
        for message in std::iter::once(begin).chain(parts).chain([end]) {
            let message = Some(message);
            let _receiver_lives = sender.send(Ok(WatchResponse { message }));
        }
        self.watchers.push(sender);
        UnboundedReceiverStream::new(receiver)
    }
}
