//! A client with one keep-alive connection, which does not parse what it gets: that would take longer than the answer.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use integration_tests::upstream::fast::CONNECTIONS;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// The header with the handle of a session.
pub(crate) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// The revision of MCP that the clients speak.
const REVISION: &str = "2025-11-25";

/// A connection.
#[derive(Debug)]
pub(crate) struct Client(http1::SendRequest<Full<Bytes>>);

/// An answer, with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    /// Connects to `host:port`.
    pub(crate) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("a TCP stream");
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .expect("it speaks HTTP/1.1");
        tokio::spawn(connection);
        Self(sender)
    }

    /// Sends a message.
    pub(crate) async fn post(&mut self, path: &Uri, headers: &HeaderMap, body: Bytes) -> Answer {
        self.send(Method::POST, path, headers, body).await
    }

    /// Begins a session, and returns the headers of its further requests.
    pub(crate) async fn initialize(&mut self, path: &Uri, headers: &HeaderMap) -> HeaderMap {
        let parameters = json!({
            "protocolVersion": REVISION,
            "capabilities": {},
            "clientInfo": {"name": "bench", "version": "1"},
        });
        let begun = self.post(path, headers, message(0, "initialize", &parameters)).await;
        assert_eq!(begun.status, StatusCode::OK, "{:?}", begun.body);
        let mut headers = headers.clone();
        if let Some(session) = begun.headers.get(SESSION) {
            headers.insert(SESSION, session.clone());
        }
        let initialized = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        let accepted = self.post(path, &headers, initialized).await;
        assert_eq!(accepted.status, StatusCode::ACCEPTED, "{:?}", accepted.body);
        headers
    }

    /// How many connections were opened to the upstream, which is the server of this one.
    pub(crate) async fn connections(&mut self, address: &str) -> usize {
        let path = Uri::from_static(CONNECTIONS);
        let answer = self
            .send(Method::GET, &path, &headers(address, None), Bytes::new())
            .await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        text.parse().expect("it is a number")
    }

    async fn send(&mut self, method: Method, path: &Uri, headers: &HeaderMap, body: Bytes) -> Answer {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.clone();
        *request.headers_mut() = headers.clone();
        self.0.ready().await.expect("the connection holds");
        let (head, body) = self
            .0
            .send_request(request)
            .await
            .expect("the connection holds")
            .into_parts();
        Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await.expect("the answer is whole").to_bytes(),
        }
    }
}

/// The headers of a request outside a session.
pub(crate) fn headers(address: &str, token: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name, value: &str| headers.insert(name, HeaderValue::from_str(value).expect("it is ASCII"));
    set(header::HOST, address);
    set(header::CONTENT_TYPE, "application/json");
    set(header::ACCEPT, "application/json, text/event-stream");
    set(HeaderName::from_static("mcp-protocol-version"), REVISION);
    if let Some(token) = token {
        set(header::AUTHORIZATION, &format!("Bearer {token}"));
    }
    headers
}

/// A request of MCP.
pub(crate) fn message(id: usize, method: &str, params: &Value) -> Bytes {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
        .to_string()
        .into()
}
