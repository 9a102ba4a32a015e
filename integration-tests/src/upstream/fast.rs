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
use rustls::ServerConfig;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// The path that returns how many connections were opened.
pub const CONNECTIONS: &str = "/connections";

/// The tools with a result of 1 KB, one of 100 KB, and each of them as an event stream.
pub const SMALL: &str = "small";
/// See [`SMALL`].
pub const SMALL_STREAMED: &str = "small_streamed";
/// See [`SMALL`].
pub const LARGE: &str = "large";
/// See [`SMALL`].
pub const LARGE_STREAMED: &str = "large_streamed";
/// How many tools the server has. Those that have no constant are like [`SMALL`].
pub const TOOLS: usize = 20;

/// The names of all tools.
pub fn tools() -> impl Iterator<Item = String> {
    let named = [SMALL, SMALL_STREAMED, LARGE, LARGE_STREAMED];
    let others = (named.len()..TOOLS).map(|n| format!("{SMALL}_{n}"));
    named.into_iter().map(str::to_owned).chain(others)
}

/// A server with these [`tools`]. [`CONNECTIONS`] returns how many connections were opened to it. It stops when dropped.
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
    /// Starts the server on an address, with TLS if there is a configuration for it. Port 0 selects a free one.
    ///
    /// # Panics
    /// If the address cannot be bound.
    pub async fn start(address: SocketAddr, tls: Option<ServerConfig>) -> Self {
        let listener = TcpListener::bind(address)
            .await
            .unwrap_or_else(|error| panic!("the upstream cannot listen on {address}: {error}"));
        let address = listener.local_addr().expect("it is bound");
        let tls = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
        let opened = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                opened.fetch_add(1, Ordering::Relaxed);
                let (tls, opened) = (tls.clone(), Arc::clone(&opened));
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, opened).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, opened).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, task }
    }

    /// Its address, `host:port`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for FastUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, opened: Arc<AtomicUsize>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&opened)));
    // It fails if the client leaves.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
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
            let tool = |name| format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#);
            format!(r#"{{"tools":[{}]}}"#, tools().map(tool).collect::<Vec<_>>().join(","))
        }
        "tools/call" => {
            let params = envelope.params.map(RawValue::get).unwrap_or_default();
            let answer = message(id, result(names(params, LARGE) || names(params, LARGE_STREAMED)));
            return Ok(if names(params, SMALL_STREAMED) || names(params, LARGE_STREAMED) {
                events(&answer)
            } else {
                json(answer)
            });
        }
        _ => "{}".to_owned(),
    };
    Ok(json(message(id, &result)))
}

/// Whether the parameters contain this text in quotes, as they do if it is the tool's name. Parsing them would take longer.
fn names(params: &str, tool: &str) -> bool {
    params
        .match_indices(tool)
        .any(|(start, _)| params[..start].ends_with('"') && params[start + tool.len()..].starts_with('"'))
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
