//! One HTTP request at an MCP endpoint.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{ACCEPT, ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use service_kit::{
    quota::{Exceeded, until_sent},
    turns::{in_place, on_runtime},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Mcp, body,
    call::{self, Answer},
    initialize, list,
    rpc::{
        self, INTERNAL_ERROR, INVALID_REQUEST, Kind, METHOD_NOT_FOUND, Message, PARSE_ERROR, RpcError,
        SESSION_NOT_FOUND, TRANSPORT_ERROR,
    },
    session::Session,
};
use crate::{
    buffers::Unread,
    domain::{CallError, Consumer, ConsumerKind, ConsumerRef},
    identity::{Identified, Refusal, challenge},
    json::{self, JsonError},
    resolve,
    upstream::{Revision, Together},
};

/// The largest message taken from a client.
const MAX_BODY: usize = 4 << 20;
/// The longest batch taken (2025-03-26), and how much of it is done at a time.
pub const MAX_BATCH: usize = 50;
const BATCH_CONCURRENCY: usize = 8;
/// All answers to a batch (bytes).
const MAX_BATCH_ANSWERS: usize = Together::MOST;

/// `Retry-After`, in seconds.
const IN_A_SECOND: HeaderValue = HeaderValue::from_static("1");

const SESSION_ID: &str = "mcp-session-id";
const PROTOCOL_VERSION: &str = "mcp-protocol-version";

/// A caller of a gateway or an agent.
struct Visit {
    mcp: Arc<Mcp>,
    /// When the head of the request had come.
    came: Instant,
    identified: Identified,
    consumer: Arc<Consumer>,
    headers: HeaderMap,
}

/// The answers to a batch that have come.
#[derive(Default)]
struct Kept {
    size: AtomicUsize,
    together: Arc<Together>,
}

/// Answers a request.
pub(super) async fn serve(mcp: Arc<Mcp>, kind: ConsumerKind, slug: &str, request: Request) -> Response {
    let came = Instant::now();
    let (head, body) = request.into_parts();
    if !mcp.hosts.permits(&head.uri, &head.headers) {
        return plain(
            StatusCode::FORBIDDEN,
            TRANSPORT_ERROR,
            "this host or origin may not use this endpoint",
        );
    }
    let name = ConsumerRef::new(kind, slug);
    let identified = match mcp.identity.identify(&head.headers).await {
        Ok(identified) => identified,
        Err(refusal) => return refused(&mcp, &name, &refusal),
    };
    // Messages cost when they have come; ending a session costs nothing.
    if !matches!(head.method, Method::POST | Method::DELETE)
        && let Err(exceeded) = mcp.quotas.requests(&identified.charged_to, 1)
    {
        return too_many(&exceeded, None);
    }
    let consumer = mcp
        .store
        .load()
        .and_then(|snapshot| resolve::consumer(&snapshot, &identified.caller, &name));
    let consumer = match consumer {
        Ok(consumer) => consumer,
        Err(error) => return unavailable(&error),
    };
    let visit = Visit {
        mcp,
        came,
        identified,
        consumer,
        headers: head.headers,
    };
    match head.method {
        Method::POST => visit.post(body).await,
        Method::GET => visit.get(),
        Method::DELETE => visit.delete(),
        _ => {
            let mut response = plain(
                StatusCode::METHOD_NOT_ALLOWED,
                TRANSPORT_ERROR,
                "use POST, GET or DELETE",
            );
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("POST, GET, DELETE"));
            response
        }
    }
}

impl Visit {
    async fn post(self, body: Body) -> Response {
        if !content_is_json(&self.headers) {
            return plain(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                TRANSPORT_ERROR,
                "Content-Type must be application/json",
            );
        }
        if !accepts(&self.headers, "application/json") {
            let both = "Accept must include application/json and text/event-stream";
            return plain(StatusCode::NOT_ACCEPTABLE, TRANSPORT_ERROR, both);
        }
        let mcp = Arc::clone(&self.mcp);
        let sender = Arc::clone(&self.identified.subject);
        let (body, _room) = match mcp.bodies.read(body, &sender, MAX_BODY).await {
            Ok(read) => read,
            Err(unread) => return self::unread(unread),
        };
        // The thread that serves this connection serves others, and has no other thread to give them to.
        on_runtime(body.len(), &mcp.runtime, self.message(body)).await
    }

    /// A body that has come.
    async fn message(self, body: Bytes) -> Response {
        // Whatever it is, it is one at least.
        if let Err(exceeded) = self.mcp.quotas.requests(&self.identified.charged_to, 1) {
            return too_many(&exceeded, None);
        }
        let own_turn = self.turn(&body).await;
        let Ok(text) = in_place(body.len(), || std::str::from_utf8(&body)).await else {
            return plain(StatusCode::BAD_REQUEST, PARSE_ERROR, "the message is not UTF-8");
        };
        if text.trim_ascii_start().starts_with('[') {
            return self.batch(text, own_turn).await;
        }
        let message = match in_place(text.len(), || Message::parse(text)).await {
            Ok(message) => message,
            Err(malformed) => return malformed.error.respond(StatusCode::BAD_REQUEST, malformed.id),
        };
        drop(own_turn);
        let Kind::Request { id, method } = &message.kind else {
            // Not counted: who has all their calls under way can still cancel them.
            return self.answered(None, &message).await;
        };
        match self.mcp.quotas.call(&self.identified.subject) {
            Ok(under_way) if method == "initialize" => {
                until_sent(under_way, self.initialize(id, message.params.as_ref()))
            }
            Ok(under_way) => until_sent(under_way, self.answered(Some(id), &message).await),
            Err(exceeded) => too_many(&exceeded, Some(id)),
        }
    }

    /// Waits for the caller's own turn to read this, where that takes long.
    async fn turn(&self, text: &[u8]) -> Option<OwnedSemaphorePermit> {
        self.mcp.turns.take(text.len(), &self.identified.subject).await
    }

    /// The answer to a message of a session; `id` is that of a request.
    async fn answered(&self, id: Option<&str>, message: &Message<'_>) -> Response {
        let session = match self.session(id) {
            Ok(session) => session,
            Err(response) => return *response,
        };
        match self.answer(session, message, None).await {
            Answer::Message(pieces) => body::pieces(pieces),
            Answer::Nothing => StatusCode::ACCEPTED.into_response(),
            Answer::Stream(messages) if accepts(&self.headers, "text/event-stream") => {
                body::events(messages.into_events())
            }
            stream => match stream.into_message().await {
                Some(message) => body::pieces(message),
                None => StatusCode::ACCEPTED.into_response(),
            },
        }
    }

    /// A batch, which only 2025-03-26 has. Its answers come together, as JSON. The own turn is that in which it is taken apart.
    async fn batch(&self, text: &str, own_turn: Option<OwnedSemaphorePermit>) -> Response {
        let session = match self.session(None) {
            Ok(session) => session,
            Err(response) => return *response,
        };
        if session.revision != Revision::V2025_03_26 {
            return plain(
                StatusCode::BAD_REQUEST,
                INVALID_REQUEST,
                "the protocol version of this session does not support batches",
            );
        }
        let elements = match in_place(text.len(), || json::elements(text, MAX_BATCH)).await {
            Ok(elements) if !elements.is_empty() => elements,
            Ok(_) | Err(JsonError::TooLong(_)) => {
                let why = format!("a batch must have 1 to {MAX_BATCH} messages");
                return plain(StatusCode::BAD_REQUEST, INVALID_REQUEST, &why);
            }
            Err(error) => return plain(StatusCode::BAD_REQUEST, PARSE_ERROR, &error.to_string()),
        };
        drop(own_turn);
        // The first has been counted.
        let further = elements.len() - 1;
        if let Err(exceeded) = self.mcp.quotas.requests(&self.identified.charged_to, further) {
            return too_many(&exceeded, None);
        }
        let mut answers: Vec<Option<[Bytes; 3]>> = vec![None; elements.len()];
        let mut requests = Vec::with_capacity(elements.len());
        for (index, element) in elements.into_iter().enumerate() {
            let _turn = self.turn(element.as_bytes()).await;
            match in_place(element.len(), || Message::parse(element)).await {
                Ok(message) if matches!(message.kind, Kind::Request { .. }) => requests.push((index, message)),
                // At once, and not counted: who has all their calls under way can still cancel them, and those of this batch.
                Ok(message) => drop(self.answer(session, &message, None).await),
                Err(malformed) => answers[index] = Some(body::whole(malformed.error.under(malformed.id))),
            }
        }
        let mut under_way = Vec::new();
        if !requests.is_empty() {
            let at_a_time = BATCH_CONCURRENCY.min(requests.len());
            under_way = match self.mcp.quotas.calls(&self.identified.subject, at_a_time) {
                Ok(under_way) => under_way,
                Err(exceeded) => return too_many(&exceeded, None),
            };
            let kept = Kept::default();
            let mut asked: Vec<BoxFuture<'_, (usize, Option<[Bytes; 3]>)>> = Vec::with_capacity(requests.len());
            for (index, request) in requests {
                let kept = &kept;
                asked.push(Box::pin(
                    async move { (index, self.element(session, request, kept).await) },
                ));
            }
            let mut asked = stream::iter(asked).buffer_unordered(under_way.len());
            while let Some((index, answer)) = asked.next().await {
                answers[index] = answer;
            }
        }
        let mut pieces = Vec::new();
        for answer in answers.into_iter().flatten() {
            pieces.push(Bytes::from_static(if pieces.is_empty() { b"[" } else { b"," }));
            pieces.extend(answer);
        }
        if pieces.is_empty() {
            return StatusCode::ACCEPTED.into_response();
        }
        pieces.push(Bytes::from_static(b"]"));
        until_sent(under_way, body::pieces(pieces))
    }

    /// Answers one request of a batch.
    async fn element(&self, session: Session, request: Message<'_>, kept: &Kept) -> Option<[Bytes; 3]> {
        let answer = self.answer(session, &request, Some(&kept.together)).await;
        let answer = answer.into_message().await?;
        let length: usize = answer.iter().map(Bytes::len).sum();
        if fits(&kept.size, length) {
            return Some(answer);
        }
        let Kind::Request { id, .. } = request.kind else {
            return None;
        };
        let why =
            format!("the answers to this batch exceed {MAX_BATCH_ANSWERS} bytes together: send this request alone");
        Some(body::whole(RpcError::new(INTERNAL_ERROR, why).under(Some(id))))
    }

    fn initialize(&self, id: &str, params: Option<&json::Object<'_>>) -> Response {
        let wish = match initialize::wish(params) {
            Ok(wish) => wish,
            Err(error) => return error.respond(StatusCode::OK, Some(id)),
        };
        if let Err(exceeded) = self.mcp.quotas.session(&self.identified.charged_to) {
            return too_many(&exceeded, Some(id));
        }
        let subject = &self.identified.subject;
        let now = self.mcp.clock.now();
        let handle = self
            .mcp
            .sessions
            .seal(wish.revision, wish.opens_links, subject, &self.consumer.name, now);
        let result = initialize::result(&self.consumer, wish.revision);
        let mut response = rpc::json_response(rpc::result(id, &result));
        let handle = HeaderValue::from_str(&handle).expect("base64url is a header value");
        response.headers_mut().insert(SESSION_ID, handle);
        response
    }

    /// Answers a message of a session.
    async fn answer(&self, session: Session, message: &Message<'_>, together: Option<&Arc<Together>>) -> Answer {
        let (id, method) = match &message.kind {
            Kind::Request { id, method } => (*id, method),
            Kind::Notification { method } => {
                if method == "notifications/cancelled"
                    && let Some(id) = message.params.as_ref().and_then(|params| params.get("requestId"))
                {
                    self.mcp.inflight.cancel(session.id, id);
                }
                return Answer::Nothing;
            }
            Kind::Response => return Answer::Nothing,
        };
        match method.as_ref() {
            "tools/call" => {
                let request = call::Request {
                    came: self.came,
                    caller: &self.identified.caller,
                    subject: &self.identified.subject,
                    together,
                    consumer: &self.consumer.name,
                    session,
                    id,
                    params: message.params.as_ref(),
                    extra: &message.extra,
                    headers: &self.headers,
                };
                call::call(&self.mcp, request).await
            }
            "tools/list" => Answer::whole(match self.list(message) {
                Ok(page) => rpc::result(id, &page),
                Err(error) => error.under(Some(id)),
            }),
            "ping" => Answer::whole(rpc::result(id, b"{}")),
            "initialize" => Answer::whole(RpcError::new(INVALID_REQUEST, "initialize stands alone").under(Some(id))),
            _ => Answer::whole(RpcError::new(METHOD_NOT_FOUND, format!("Method not found: {method}")).under(Some(id))),
        }
    }

    fn list(&self, message: &Message<'_>) -> Result<Vec<u8>, RpcError> {
        let (caller, consumer) = (&self.identified.caller, &self.consumer.name);
        let find = |after: Option<&str>, size| {
            let snapshot = self.mcp.store.load();
            snapshot
                .and_then(|snapshot| resolve::page(&snapshot, caller, consumer, after, size))
                .map_err(|error| RpcError::new(INTERNAL_ERROR, error.to_string()))
        };
        list::page(find, &self.mcp.cursors, caller, consumer, message.params.as_ref())
    }

    /// The stream on which a client learns that its list of tools has changed.
    fn get(self) -> Response {
        if !accepts(&self.headers, "text/event-stream") {
            return plain(
                StatusCode::NOT_ACCEPTABLE,
                TRANSPORT_ERROR,
                "Accept must include text/event-stream",
            );
        }
        let session = match self.session(None) {
            Ok(session) => session,
            Err(response) => return *response,
        };
        let open = match self.mcp.quotas.stream(&self.identified.subject) {
            Ok(open) => open,
            Err(exceeded) => return too_many(&exceeded, None),
        };
        let ended = self.mcp.sessions.listen(&session);
        let last = self
            .headers
            .get("last-event-id")
            .and_then(|id| id.to_str().ok())
            .map(str::to_owned);
        let name = self.consumer.name.clone();
        body::events(list::changes(
            self.mcp,
            self.identified,
            name,
            session.revision,
            last,
            (open, ended),
        ))
    }

    fn delete(&self) -> Response {
        match self.session(None) {
            Ok(session) => {
                self.mcp.sessions.end(&session);
                self.mcp.calls.end_client(session.client());
                StatusCode::NO_CONTENT.into_response()
            }
            Err(response) => *response,
        }
    }

    /// The session that the request belongs to, or the answer where there is none; `id` is that of the request.
    fn session(&self, id: Option<&str>) -> Result<Session, Box<Response>> {
        // Before the session: a client of another revision learns from this answer that it must speak one of ours.
        if let Some(version) = self.headers.get(PROTOCOL_VERSION)
            && version.to_str().ok().and_then(Revision::parse).is_none()
        {
            let shown: String = String::from_utf8_lossy(version.as_bytes()).chars().take(40).collect();
            let why = format!(
                "Bad Request: Unsupported protocol version: {shown} (supported versions: 2025-11-25, 2025-06-18, 2025-03-26)"
            );
            return Err(Box::new(
                RpcError::new(TRANSPORT_ERROR, why).respond(StatusCode::BAD_REQUEST, id),
            ));
        }
        let Some(handle) = self.headers.get(SESSION_ID) else {
            let why = "Bad Request: the header Mcp-Session-Id is missing; send initialize first";
            return Err(Box::new(
                RpcError::new(TRANSPORT_ERROR, why).respond(StatusCode::BAD_REQUEST, id),
            ));
        };
        let subject = &self.identified.subject;
        let now = self.mcp.clock.now();
        let open = |handle| self.mcp.sessions.open(handle, subject, &self.consumer.name, now);
        handle.to_str().ok().and_then(open).ok_or_else(|| {
            let error = RpcError::new(SESSION_NOT_FOUND, "Session not found; send initialize again");
            Box::new(error.respond(StatusCode::NOT_FOUND, id))
        })
    }
}

/// Adds an answer to those of its batch, if there is room for it.
fn fits(size: &AtomicUsize, length: usize) -> bool {
    let with = |size: usize| size.checked_add(length).filter(|size| *size <= MAX_BATCH_ANSWERS);
    size.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with).is_ok()
}

fn plain(status: StatusCode, code: i64, message: &str) -> Response {
    RpcError::new(code, message).respond(status, None)
}

/// The answer to a request whose body could not be read.
fn unread(why: Unread) -> Response {
    match why {
        Unread::TooLarge => {
            let why = format!("the message is larger than {MAX_BODY} bytes");
            plain(StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST, &why)
        }
        Unread::TooSlow => plain(
            StatusCode::REQUEST_TIMEOUT,
            TRANSPORT_ERROR,
            "the message arrived too slowly",
        ),
        Unread::BrokeOff => plain(StatusCode::BAD_REQUEST, PARSE_ERROR, "the message broke off"),
        Unread::TooMuch => {
            let why =
                "you are sending as many large messages at a time as one caller may; retry when they have arrived";
            later(StatusCode::TOO_MANY_REQUESTS, why, None, IN_A_SECOND)
        }
        Unread::Full => {
            let why = "no memory is free for another large message; retry";
            later(StatusCode::SERVICE_UNAVAILABLE, why, None, IN_A_SECOND)
        }
    }
}

/// Answers who does too much (RFC 6585, section 4); `id` is that of the request.
fn too_many(exceeded: &Exceeded, id: Option<&str>) -> Response {
    let (status, why) = (StatusCode::TOO_MANY_REQUESTS, exceeded.to_string());
    later(status, &why, id, exceeded.retry_after())
}

/// Answers who may come again.
fn later(status: StatusCode, why: &str, id: Option<&str>, retry_after: HeaderValue) -> Response {
    let mut response = RpcError::new(TRANSPORT_ERROR, why).respond(status, id);
    response.headers_mut().insert(RETRY_AFTER, retry_after);
    response
}

fn refused(mcp: &Mcp, name: &ConsumerRef, refusal: &Refusal) -> Response {
    let message = match refusal {
        Refusal::Anonymous => {
            "send a token of a configured issuer, or a gateway token: Authorization: Bearer <token>".to_owned()
        }
        Refusal::Token(why) => format!("the token was refused: {why}"),
        Refusal::Deactivated => "your account is deactivated here; ask an admin".to_owned(),
        Refusal::IssuerUnreachable => {
            let why = "the token's issuer is unreachable, so the token cannot be verified; retry";
            return plain(StatusCode::SERVICE_UNAVAILABLE, INTERNAL_ERROR, why);
        }
        Refusal::Unavailable(error) => return unavailable(error),
    };
    let mut response = plain(StatusCode::UNAUTHORIZED, TRANSPORT_ERROR, &message);
    response
        .headers_mut()
        .insert(WWW_AUTHENTICATE, challenge(&mcp.links, &name.mcp_path(), refusal));
    response
}

fn unavailable(error: &CallError) -> Response {
    let status = match error {
        CallError::ConsumerNotFound(_) => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    plain(status, TRANSPORT_ERROR, &error.to_string())
}

pub(super) fn content_is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    kind.split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Whether a media type is taken by the client; one that names none takes all.
pub(super) fn accepts(headers: &HeaderMap, wanted: &str) -> bool {
    if !headers.contains_key(ACCEPT) {
        return true;
    }
    let named = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    named.flat_map(|value| value.split(',')).any(|range| {
        let range = range.split(';').next().unwrap_or_default().trim();
        let family = range.strip_suffix("/*").filter(|family| !family.contains('*'));
        range == "*/*"
            || range.eq_ignore_ascii_case(wanted)
            || family.is_some_and(|family| {
                wanted
                    .split('/')
                    .next()
                    .is_some_and(|kind| kind.eq_ignore_ascii_case(family))
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_does_not_fit_takes_no_room() {
        let size = AtomicUsize::new(0);
        let (large, small) = (MAX_BATCH_ANSWERS / 2 - 10, 10);
        let fit = [large, large, large, small, small, small].map(|length| fits(&size, length));
        assert_eq!(fit, [true, true, false, true, true, false]);
        assert!(!fits(&size, usize::MAX));
    }

    #[test]
    fn accept_is_read_as_http_has_it() {
        let of = |value: &'static str, wanted| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(value));
            accepts(&headers, wanted)
        };
        assert!(of("application/json, text/event-stream", "text/event-stream"));
        assert!(of("application/json;q=0.9, */*", "text/event-stream"));
        assert!(of("Application/*", "application/json"));
        assert!(!of("application/json", "text/event-stream"));
        assert!(!of("text/html", "application/json"));
        assert!(accepts(&HeaderMap::new(), "application/json"));
    }
}
