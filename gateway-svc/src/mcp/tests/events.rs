//! Streams of events, as clients read them and as servers write them.

use futures::StreamExt as _;
use pretty_assertions::assert_eq;

use super::*;

/// The messages in the events of a stream that are there at the moment, or that come.
pub(super) struct Events {
    body: Body,
    text: String,
    /// The id of the last event.
    pub(super) last: String,
}

impl Events {
    pub(super) fn of(response: Response) -> Self {
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            body: response.into_body(),
            text: String::new(),
            last: String::new(),
        }
    }

    /// Waits for the first event, which has no message.
    pub(super) async fn primed(&mut self) {
        let frame = self.body.frame().await.expect("an event comes").unwrap();
        let data = frame.into_data().unwrap();
        assert!(data.ends_with(b"data:\n\n"), "{data:?}");
        let id = data
            .split(|&byte| byte == b'\n')
            .find_map(|line| line.strip_prefix(b"id: "));
        self.last = id.map(String::from_utf8_lossy).unwrap_or_default().into_owned();
    }

    /// Waits for the end.
    pub(super) async fn ended(&mut self) {
        let more = self.body.frame().await;
        assert!(more.is_none(), "nothing more comes: {more:?}");
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> Value {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                if let Some(id) = event.lines().find_map(|line| line.strip_prefix("id: ")) {
                    id.clone_into(&mut self.last);
                }
                let data = event
                    .lines()
                    .find_map(|line| line.strip_prefix("data: "))
                    .map(str::to_owned);
                self.text = rest.to_owned();
                if let Some(data) = data {
                    return serde_json::from_str(&data).unwrap();
                }
                continue;
            }
            let frame = self.body.frame().await.expect("a message comes").unwrap();
            self.text += std::str::from_utf8(&frame.into_data().unwrap()).unwrap();
        }
    }
}

/// A message without an answer.
pub(super) fn notification(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": format!("notifications/{method}"), "params": params})
}

/// Streams that the test writes to, each of which it gets when it is asked for.
pub(super) fn streams() -> (
    mpsc::UnboundedReceiver<mpsc::UnboundedSender<Value>>,
    impl Fn() -> Response + Send + Sync,
) {
    let (opened, streams) = mpsc::unbounded_channel();
    let respond = move || {
        let (write, read) = mpsc::unbounded_channel::<Value>();
        // The test may be over.
        let _ = opened.send(write);
        let events = tokio_stream::wrappers::UnboundedReceiverStream::new(read)
            .map(|message| Ok::<_, std::convert::Infallible>(format!("data: {message}\n\n")));
        ([("content-type", "text/event-stream")], Body::from_stream(events)).into_response()
    };
    (streams, respond)
}

/// A stream that the test writes to, one message an event.
pub(super) fn written() -> (mpsc::UnboundedSender<Value>, impl Fn() -> Response + Send + Sync) {
    let (write, read) = mpsc::unbounded_channel::<Value>();
    let read = Mutex::new(Some(read));
    let respond = move || {
        let read = read.lock().unwrap().take().expect("it is asked once");
        let events = tokio_stream::wrappers::UnboundedReceiverStream::new(read)
            .map(|message| Ok::<_, std::convert::Infallible>(format!("data: {message}\n\n")));
        ([("content-type", "text/event-stream")], Body::from_stream(events)).into_response()
    };
    (write, respond)
}

impl World {
    /// The next message of the upstream's that this is said of.
    pub(super) async fn saw(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (message, _) = self.seen.recv().await.unwrap();
            if is(&message) {
                return message;
            }
        }
    }
}
