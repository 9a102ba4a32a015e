//! An MCP server that responds at minimal cost, to measure what is in front of it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{net::TcpListener, task::JoinHandle};

/// The path that returns how many connections were opened.
pub const CONNECTIONS: &str = "/connections";

/// A server on 127.0.0.1 with the tools `small` (1 KB), `streamed` (the same as an event stream) and `large` (100 KB). [`CONNECTIONS`]
/// returns how many connections were opened to it. It stops when dropped.
#[derive(Debug)]
pub struct FastUpstream {
    address: SocketAddr,
    task: JoinHandle<()>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: &'a str,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

impl FastUpstream {
    /// Starts the server.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the loopback interface has free ports");
        let address = listener.local_addr().expect("it is bound");
        let opened = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                opened.fetch_add(1, Ordering::Relaxed);
                let opened = Arc::clone(&opened);
                let service = service_fn(move |request| answer(request, Arc::clone(&opened)));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, task }
    }

    /// Its address, `host:port`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its MCP endpoint.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }
}

impl Drop for FastUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(request: Request<Incoming>, opened: Arc<AtomicUsize>) -> Result<Response<Full<Bytes>>, Infallible> {
    let status = |status| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        Ok(response)
    };
    if request.uri().path() == CONNECTIONS {
        let opened = opened.load(Ordering::Relaxed).to_string();
        return Ok(Response::new(Full::from(opened)));
    }
    if request.method() != http::Method::POST {
        return status(StatusCode::METHOD_NOT_ALLOWED);
    }
    let Ok(body) = request.into_body().collect().await else {
        return status(StatusCode::BAD_REQUEST);
    };
    let body = body.to_bytes();
    let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(&body) else {
        return status(StatusCode::BAD_REQUEST);
    };
    let Some(id) = envelope.id else {
        return status(StatusCode::ACCEPTED);
    };
    let result = match envelope.method {
        "initialize" => {
            r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"fast","version":"1"}}"#
                .to_owned()
        }
        "tools/list" => {
            let tool = |name: &str| format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#);
            format!(
                r#"{{"tools":[{}]}}"#,
                ["small", "streamed", "large"].map(tool).join(",")
            )
        }
        "tools/call" => {
            let names = |tool: &str| envelope.params.is_some_and(|params| params.get().contains(tool));
            let answer = message(id, result(names(r#""large""#)));
            return Ok(if names(r#""streamed""#) {
                events(&answer)
            } else {
                json(answer)
            });
        }
        _ => "{}".to_owned(),
    };
    Ok(json(message(id, &result)))
}

fn result(large: bool) -> &'static str {
    use std::sync::LazyLock;
    static SMALL: LazyLock<String> = LazyLock::new(|| text(900));
    static LARGE: LazyLock<String> = LazyLock::new(|| text(100_000));
    if large { &LARGE } else { &SMALL }
}

fn text(length: usize) -> String {
    format!(r#"{{"content":[{{"type":"text","text":"{}"}}]}}"#, "x".repeat(length))
}

fn message(id: &RawValue, result: &str) -> Bytes {
    let mut message = BytesMut::with_capacity(result.len() + 64);
    for part in [r#"{"jsonrpc":"2.0","id":"#, id.get(), r#","result":"#, result, "}"] {
        message.put_slice(part.as_bytes());
    }
    message.freeze()
}

fn json(message: Bytes) -> Response<Full<Bytes>> {
    answered("application/json", message)
}

/// In chunks, as servers send streams.
fn events(message: &[u8]) -> Response<Full<Bytes>> {
    let event = [b"event: message\ndata: ", message, b"\n\n"].concat();
    let mut response = answered("text/event-stream", event.into());
    let chunked = header::HeaderValue::from_static("chunked");
    response.headers_mut().insert(header::TRANSFER_ENCODING, chunked);
    response
}

fn answered(kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
