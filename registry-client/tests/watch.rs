//! Tests of the watch loop against a fake registry-svc that sends scripted messages.

use std::{collections::VecDeque, pin::Pin, sync::Mutex};

use contracts::registry::{
    Bookmark, Change, ChangeBatch, ChangePart, Resumed, SnapshotBegin, SnapshotEnd, WatchRequest, WatchResponse,
    WatchStart, WatchedObject, watch_request,
    watch_response::Message,
    watch_service_server::{WatchService, WatchServiceServer},
};
use registry_client::watch::{Sink, Watcher, follow};
use service_kit::{Workload, pipe::pipe, serve::serve};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::UnboundedReceiverStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming, service::Routes};

/// Sends to each stream the next list of the script, and keeps the stream open until the client drops it.
struct Scripted {
    script: Mutex<VecDeque<Vec<Option<Message>>>>,
    events: mpsc::UnboundedSender<Event>,
}

/// What the client has done, in order.
#[derive(Debug, PartialEq)]
enum Event {
    Started { resume_revision: i64 },
    Acked(i64),
    Connected(bool),
    Applied(i64),
}

#[tonic::async_trait]
impl WatchService for Scripted {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let mut requests = request.into_inner();
        let Some(watch_request::Message::Start(WatchStart { resume_revision, .. })) =
            requests.message().await?.and_then(|request| request.message)
        else {
            return Err(Status::invalid_argument("no start"));
        };
        let _ = self.events.send(Event::Started { resume_revision });
        let (sender, receiver) = mpsc::unbounded_channel();
        let script = self.script.lock().unwrap().pop_front();
        for message in script.into_iter().flatten() {
            let _ = sender.send(WatchResponse { message });
        }
        let events = self.events.clone();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if let Some(watch_request::Message::Ack(ack)) = request.message {
                    let _ = events.send(Event::Acked(ack.revision));
                }
            }
            drop(sender);
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver).map(Ok))))
    }
}

struct Recorder(mpsc::UnboundedSender<Event>);

impl Sink for Recorder {
    fn snapshot_begin(&mut self) {}
    async fn snapshot_objects(&mut self, _: Vec<WatchedObject>) {}
    async fn snapshot_end(&mut self, revision: i64) {
        let _ = self.0.send(Event::Applied(revision));
    }
    async fn changes(&mut self, revision: i64, _: Vec<Change>) {
        let _ = self.0.send(Event::Applied(revision));
    }
    fn connected(&mut self, connected: bool) {
        let _ = self.0.send(Event::Connected(connected));
    }
}

/// A client that follows a registry with this script: one list of messages per stream.
struct Following {
    events: mpsc::UnboundedReceiver<Event>,
    _stop: DropGuard,
}

impl Following {
    fn start<const N: usize>(script: [Vec<Option<Message>>; N]) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let (channel, listener) = pipe(Workload::Gateway);
        let scripted = Scripted {
            script: Mutex::new(script.into()),
            events: sender.clone(),
        };
        let stop = CancellationToken::new();
        let routes = Routes::new(WatchServiceServer::new(scripted));
        tokio::spawn(serve(routes, listener, stop.clone()));
        let stopped = stop.clone();
        tokio::spawn(async move {
            let watcher = Watcher {
                instance: "a".to_owned(),
                ..Watcher::default()
            };
            follow(channel, &watcher, &[], &mut Recorder(sender), stopped).await;
        });
        Self {
            events,
            _stop: stop.drop_guard(),
        }
    }

    /// The next events without acknowledgements, whose order relative to the others is not defined.
    async fn without_acks(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            let event = tokio::time::timeout(std::time::Duration::from_secs(20), self.events.recv());
            match event.await.expect("something happens in time").unwrap() {
                Event::Acked(_) => {}
                event => events.push(event),
            }
        }
        events
    }
}

fn snapshot(revision: i64) -> [Option<Message>; 2] {
    let begin = SnapshotBegin {
        database_epoch: "e".to_owned(),
    };
    [
        Some(Message::SnapshotBegin(begin)),
        Some(Message::SnapshotEnd(SnapshotEnd { revision })),
    ]
}

fn changes(revision: i64) -> Option<Message> {
    Some(Message::Changes(ChangeBatch {
        revision,
        changes: Vec::new(),
    }))
}

/// A part of a revision followed by another message, which ends the stream with an error.
fn broken() -> [Option<Message>; 2] {
    let part = ChangePart {
        revision: 1_000,
        ..ChangePart::default()
    };
    [Some(Message::ChangePart(part)), changes(1_001)]
}

#[tokio::test]
async fn a_resumed_watch_is_connected_once_it_has_caught_up() {
    let resumed = |revision| Some(Message::Resumed(Resumed { revision }));
    let bookmark = |revision| Some(Message::Bookmark(Bookmark { revision }));
    let mut following = Following::start([
        snapshot(5).into_iter().chain(broken()).collect(),
        [resumed(8), changes(6), changes(7), bookmark(8)]
            .into_iter()
            .chain(broken())
            .collect(),
        [resumed(8)].into_iter().collect(),
    ]);
    use Event::{Applied, Connected, Started};
    let expected = [
        Started { resume_revision: 0 },
        Applied(5),
        Connected(true),
        Connected(false),
        Started { resume_revision: 5 },
        Applied(6),
        Applied(7),
        Connected(true),
        Connected(false),
        Started { resume_revision: 8 },
        Connected(true),
    ];
    assert_eq!(following.without_acks(expected.len()).await, expected);
}

#[tokio::test]
async fn an_unknown_message_requires_a_new_snapshot() {
    let mut following = Following::start([
        snapshot(5).into_iter().chain([None, changes(6)]).collect(),
        snapshot(7).into(),
    ]);
    use Event::{Applied, Connected, Started};
    let expected = [
        Started { resume_revision: 0 },
        Applied(5),
        Connected(true),
        Connected(false),
        // The message may have been a change.
        Started { resume_revision: 0 },
        Applied(7),
        Connected(true),
    ];
    assert_eq!(following.without_acks(expected.len()).await, expected);
}
