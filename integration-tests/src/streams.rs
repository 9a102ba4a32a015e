//! Many MCP clients, each with a session of its own and the stream for messages from the server.

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::{net::TcpStream, sync::mpsc, task::JoinSet};

use crate::wait::TIMEOUT;

/// Streams on one connection: a process may have fewer sockets than clients, and the gateway serves 128 requests on one.
const ON_ONE: usize = 100;

/// What came on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Came {
    /// The number of the stream.
    pub stream: usize,
    /// An event; no comment.
    pub text: String,
}

/// The streams, which stay open until this is dropped.
#[derive(Debug)]
pub struct Streams {
    came: mpsc::UnboundedReceiver<Came>,
    _open: JoinSet<()>,
}

impl Streams {
    /// Opens the streams `from..to` at the gateway of this URL path, each in a session of its own.
    ///
    /// # Panics
    /// If the gateway refuses one.
    pub async fn open(address: &str, path: &str, token: &str, streams: std::ops::Range<usize>) -> Self {
        let (tell, came) = mpsc::unbounded_channel();
        let mut opening = JoinSet::new();
        for first in streams.clone().step_by(ON_ONE) {
            let client = Client {
                sender: connect(address).await,
                url: format!("http://{address}{path}"),
                authorization: format!("Bearer {token}"),
            };
            let numbers = first..streams.end.min(first + ON_ONE);
            opening.spawn(async move {
                let mut opened = Vec::new();
                for number in numbers {
                    opened.push((number, client.stream().await));
                }
                opened
            });
        }
        let mut open = JoinSet::new();
        for (number, stream) in opening.join_all().await.into_iter().flatten() {
            open.spawn(read(number, stream, tell.clone()));
        }
        Self { came, _open: open }
    }

    /// The next event of any; none when all have ended.
    ///
    /// # Panics
    /// If nothing comes and they do not end.
    pub async fn next(&mut self) -> Option<Came> {
        tokio::time::timeout(TIMEOUT, self.came.recv())
            .await
            .expect("an event comes")
    }
}

async fn connect(address: &str) -> SendRequest<Full<Bytes>> {
    let connection = TcpStream::connect(address).await.expect("the gateway listens");
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(connection))
        .await
        .expect("the gateway speaks HTTP/2");
    tokio::spawn(connection);
    sender
}

/// A client on a connection that others use, too.
struct Client {
    sender: SendRequest<Full<Bytes>>,
    url: String,
    authorization: String,
}

impl Client {
    async fn send(&self, method: Method, session: Option<&str>, body: String) -> Response<Incoming> {
        let mut request = Request::builder()
            .method(method)
            .uri(&self.url)
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream");
        if let Some(session) = session {
            request = request
                .header("mcp-session-id", session)
                .header("mcp-protocol-version", "2025-11-25");
        }
        let request = request.body(Full::from(body)).expect("the headers are valid");
        let answer = self.sender.clone().send_request(request).await.expect("it answers");
        assert!(answer.status().is_success(), "{answer:?}");
        answer
    }

    /// Begins a session and opens its stream.
    async fn stream(&self) -> Incoming {
        let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "one of many", "version": "1"},
        }});
        let answer = self.send(Method::POST, None, initialize.to_string()).await;
        let session = answer.headers()["mcp-session-id"]
            .to_str()
            .expect("it is ASCII")
            .to_owned();
        answer.into_body().collect().await.expect("a whole answer");
        let mut stream = self.send(Method::GET, Some(&session), String::new()).await.into_body();
        let first = stream
            .frame()
            .await
            .expect("it begins with an event")
            .expect("it is open");
        let first = first.into_data().expect("it begins with an event");
        assert!(first.starts_with(b"id: "), "{first:?}");
        stream
    }
}

/// Each event comes in one frame: they are short.
async fn read(stream: usize, mut body: Incoming, tell: mpsc::UnboundedSender<Came>) {
    while let Some(Ok(frame)) = body.frame().await {
        let data = frame.into_data().unwrap_or_default();
        // Whatever else comes is a comment.
        if !data.starts_with(b":") && !data.is_empty() {
            let text = String::from_utf8_lossy(&data).into_owned();
            // Nobody waits for it any more.
            let _ = tell.send(Came { stream, text });
        }
    }
}
