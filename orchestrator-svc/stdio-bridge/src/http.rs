//! Streamable HTTP for the clients of a stdio server.
//!
//! A request is answered with JSON, or with a stream if the server sends something for its client before it answers: progress, and with a process of
//! its own what the server asks. Other messages are sent on the streams of GET. The session id distinguishes clients, whose request ids may be equal. It is valid for this process of the server:
//! after a restart, clients initialize again.

mod modern;

use std::{future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

pub(crate) use self::modern::Asked;
use crate::{
    answer::{Body, empty, event_stream, json, sse, text},
    envelope::{INVALID_REQUEST, Kind, Members, PARSE_ERROR, error},
    era::Era,
    in_flight::InFlight,
    spec::Limits,
    stdio::{BUSY, METHOD_NOT_FOUND, NOT_TAKEN, SERVER_ENDED, Session, TIMEOUT, Waiting, is_subscription},
};

/// The endpoint's only path.
pub(crate) const PATH: &str = "/mcp";
pub(crate) const SESSION: &str = "mcp-session-id";
/// Length of [`Endpoint::run`].
pub(crate) const RUN: usize = 32;
const VERSION: &str = "mcp-protocol-version";
/// The revisions that a client may name in a header.
const VERSIONS: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];
/// In an answer with status 503: the request was not sent to the server, since that is `stopping` or has ended; since it has as many requests in progress as it
/// may (`calls`); since all processes for sessions are in use (`full`), or as many of them as one caller may have (`share`). Removed from the answers
/// of servers.
pub const NOT_TAKEN_HEADER: &str = "chandlery-not-taken";
const KEEP_ALIVE: Duration = Duration::from_secs(25);
/// A comment, which clients ignore.
const KEPT_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// The endpoint.
pub(crate) struct Endpoint {
    session: Arc<Session>,
    era: Era,
    limits: Limits,
    run: String,
}

impl Endpoint {
    pub(crate) fn new(session: Arc<Session>, era: Era, limits: Limits) -> Self {
        Self {
            session,
            era,
            limits,
            run: Uuid::new_v4().simple().to_string(),
        }
    }

    /// The beginning of its session ids: [`RUN`] random characters.
    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    /// Answers a request of a client.
    pub(crate) async fn handle<B>(self: Arc<Self>, request: Request<B>, in_flight: &InFlight) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if request.uri().path() != PATH {
            return wrong_path();
        }
        if let Era::Modern(discovered) = &self.era {
            return self.modern(request, discovered, in_flight).await;
        }
        if let Some(version) = request.headers().get(VERSION)
            && !VERSIONS.iter().any(|v| version.as_bytes() == v.as_bytes())
        {
            let message = format!(
                "Unsupported protocol version: initialize a session with one of {}",
                VERSIONS.join(", ")
            );
            return json(StatusCode::BAD_REQUEST, error("null", SERVER_ENDED, &message));
        }
        let client = match self.client(request.headers()) {
            Ok(client) => client,
            Err(refusal) => return *refusal,
        };
        match *request.method() {
            Method::POST => self.post(request, &client, in_flight).await,
            Method::GET => self.stream(request.headers(), &client),
            Method::DELETE => {
                self.session.left(&client);
                empty(StatusCode::NO_CONTENT)
            }
            _ => empty(StatusCode::METHOD_NOT_ALLOWED),
        }
    }

    /// The session that the client names; empty if it names none.
    fn client(&self, headers: &HeaderMap) -> Result<String, Box<Response<Body>>> {
        let Some(session) = headers.get(SESSION) else {
            return Ok(String::new());
        };
        match session
            .to_str()
            .ok()
            .filter(|s| s.starts_with(&self.run) && s.len() <= 80)
        {
            Some(session) => Ok(session.to_owned()),
            None => Err(Box::new(session_ended())),
        }
    }

    async fn post<B>(&self, request: Request<B>, client: &str, in_flight: &InFlight) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let content_type = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return text(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Content-Type must be application/json.",
            );
        }
        let takes_stream = accepts(request.headers(), "text/event-stream");
        let body = match whole(request.into_body(), &self.limits).await {
            Ok(body) => body,
            Err(refusal) => return *refusal,
        };
        let Some(message) = Members::parse(&body) else {
            return json(
                StatusCode::BAD_REQUEST,
                error("null", PARSE_ERROR, "The body is not one JSON object."),
            );
        };
        match message.kind() {
            None => json(
                StatusCode::BAD_REQUEST,
                error("null", INVALID_REQUEST, "Not a JSON-RPC 2.0 message."),
            ),
            Some(Kind::Response) => {
                let text = String::from_utf8_lossy(&body).into_owned();
                self.session.answered_by_client(&message, text).await;
                empty(StatusCode::ACCEPTED)
            }
            Some(Kind::Notification { method }) => {
                match method.as_str() {
                    "notifications/cancelled" => self.session.cancel(client, &message).await,
                    // The server was initialized by the bridge, without roots.
                    "notifications/initialized" | "notifications/roots/list_changed" if !self.session.asks() => {}
                    _ => {
                        self.session.send(String::from_utf8_lossy(&body).into_owned()).await;
                    }
                }
                empty(StatusCode::ACCEPTED)
            }
            Some(Kind::Request { method }) => {
                let Some(admitted) = in_flight.admit() else {
                    return not_taken(id(&message));
                };
                let response = match method.as_str() {
                    "initialize" => self.initialize(&message),
                    // Methods of 2026-07-28. The bridge implements the earlier revisions.
                    "server/discover" | "subscriptions/listen" => json(
                        StatusCode::OK,
                        error(id(&message), METHOD_NOT_FOUND, "Method not found"),
                    ),
                    _ => self.call(&message, client, takes_stream).await,
                };
                admitted.until_answered(response)
            }
        }
    }

    fn initialize(&self, message: &Members<'_>) -> Response<Body> {
        let asked = message
            .object("params")
            .and_then(|p| p.string("protocolVersion"))
            .unwrap_or_default();
        let Some(result) = self.session.initialize_result(&asked) else {
            return json(
                StatusCode::OK,
                error(id(message), SERVER_ENDED, "The MCP server is not ready."),
            );
        };
        let mut response = json(
            StatusCode::OK,
            format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id(message)),
        );
        let session = format!("{}-{}", self.run, Uuid::new_v4().simple());
        response
            .headers_mut()
            .insert(SESSION, session.parse().expect("hexadecimal digits"));
        response
    }

    async fn call(&self, message: &Members<'_>, client: &str, takes_stream: bool) -> Response<Body> {
        let id = id(message);
        if self.session.notes_subscription(client, message) {
            return json(
                StatusCode::OK,
                format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
            );
        }
        let waiting = match self.session.request(client, message, takes_stream).await {
            Ok(waiting) => waiting,
            Err((code, why)) => return json(StatusCode::OK, error(id, code, &why)),
        };
        let patience = (!is_subscription(message)).then(|| self.limits.request());
        let mut call = Call {
            session: Arc::clone(&self.session),
            waiting,
            id: id.to_owned(),
            patience,
            until: patience.map(|patience| Instant::now() + patience),
        };
        loop {
            match call.next().await {
                Next::Answer(answer) => return json(StatusCode::OK, answer),
                Next::Message(first) if takes_stream => return event_stream(call.stream(first)),
                Next::Message(_) | Next::Nothing => {}
            }
        }
    }

    fn stream(&self, headers: &HeaderMap, client: &str) -> Response<Body> {
        if !accepts(headers, "text/event-stream") {
            return text(StatusCode::NOT_ACCEPTABLE, "Accept must be text/event-stream.");
        }
        let (listening, ended) = (self.session.listen(client), self.session.ended());
        let rest = stream::unfold((listening, ended), |(mut listening, mut ended)| async move {
            let event = tokio::select! {
                _ = ended.wait_for(Option::is_some) => return None,
                event = timeout(KEEP_ALIVE, listening.next()) => event,
            };
            let chunk = match event {
                Ok(message) => sse(&message?),
                Err(_) => KEPT_ALIVE,
            };
            Some((chunk, (listening, ended)))
        });
        event_stream(stream::once(async { Bytes::from_static(b": open\n\n") }).chain(rest))
    }
}

/// A request under way.
struct Call {
    session: Arc<Session>,
    waiting: Waiting,
    id: String,
    /// How long it waits for the next message, if it does not wait for ever.
    patience: Option<Duration>,
    until: Option<Instant>,
}

enum Next {
    /// What precedes the answer.
    Message(String),
    Answer(String),
    /// Nothing has come for the time of [`KEEP_ALIVE`].
    Nothing,
}

impl Call {
    async fn next(&mut self) -> Next {
        let Waiting { answer, messages, .. } = &mut self.waiting;
        let late = async {
            match self.until {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        };
        tokio::select! {
            // Messages are sent before the answer that they preceded.
            biased;
            Some(message) = messages.recv() => {
                self.until = self.patience.map(|patience| Instant::now() + patience);
                return Next::Message(message);
            }
            answer = answer => return Next::Answer(match answer {
                Ok(answer) => answer,
                Err(_) => error(&self.id, SERVER_ENDED, "The MCP server has ended."),
            }),
            () = late => {}
            () = sleep(KEEP_ALIVE) => return Next::Nothing,
        }
        self.session.give_up(self.waiting.internal_id, "timeout").await;
        let seconds = self.patience.unwrap_or_default().as_secs_f32();
        let why = format!("The MCP server did not answer within {seconds} s.");
        Next::Answer(error(&self.id, TIMEOUT, &why))
    }

    fn stream(self, first: String) -> impl Stream<Item = Bytes> + Send {
        let rest = stream::unfold(Some(self), |call| async move {
            let mut call = call?;
            match call.next().await {
                Next::Message(message) => Some((sse(&message), Some(call))),
                Next::Answer(message) => Some((sse(&message), None)),
                Next::Nothing => Some((KEPT_ALIVE, Some(call))),
            }
        });
        stream::once(async move { sse(&first) }).chain(rest)
    }
}

impl Drop for Call {
    /// The client has disconnected, so the request is cancelled.
    fn drop(&mut self) {
        let id = self.waiting.internal_id;
        if self.session.is_left(id)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let session = Arc::clone(&self.session);
            runtime.spawn(async move { session.give_up(id, "the client has gone").await });
        }
    }
}

/// The whole body of a message, or the answer to one that is too long.
pub(crate) async fn whole<B>(body: B, limits: &Limits) -> Result<Bytes, Box<Response<Body>>>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, limits.message_bytes).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(_) => Err(Box::new(text(
            StatusCode::PAYLOAD_TOO_LARGE,
            "The message is too long, or broke off.",
        ))),
    }
}

/// Answers a request that names another path than [`PATH`].
pub(crate) fn wrong_path() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "The MCP endpoint is /mcp.")
}

/// Answers a request of a session that has ended, so that the client initializes again.
pub(crate) fn session_ended() -> Response<Body> {
    let body = error("null", SERVER_ENDED, "The session has ended; initialize again.");
    json(StatusCode::NOT_FOUND, body)
}

/// Refuses a request that was not sent to the server, since the server has ended or is being stopped. It may be sent again, to the server that is started next.
pub(crate) fn not_taken(id: &str) -> Response<Body> {
    let why = "The MCP server has ended, or is being stopped; this request was not passed on to it.";
    refused("stopping", "1", error(id, NOT_TAKEN, why))
}

/// Refuses a request that was not sent to the server since it is busy. The gateway reads `what`; others read the text.
pub(crate) fn busy(id: &str, what: &'static str, why: &str) -> Response<Body> {
    refused(what, "5", error(id, BUSY, why))
}

fn refused(what: &'static str, retry_after: &'static str, error: String) -> Response<Body> {
    let mut response = json(StatusCode::SERVICE_UNAVAILABLE, error);
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static(retry_after));
    headers.insert(NOT_TAKEN_HEADER, HeaderValue::from_static(what));
    response
}

pub(crate) fn id<'a>(message: &Members<'a>) -> &'a str {
    message.get("id").map_or("null", |id| id.get())
}

fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let mut values = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    values.any(|v| v.to_ascii_lowercase().contains(media_type) || v.contains("*/*"))
}
