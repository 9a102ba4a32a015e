//! Sends one message, and interprets status and headers of the answer.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap},
};
use http_body_util::{BodyExt as _, Full};
use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    answer::rest,
    challenge,
    client::Era,
    connect,
    error::{Failure, UpstreamError},
    http1::PreparedPost,
    pool::{Body, Pool, PoolError},
    response::{Response, is_encoded, media_type},
    session::Session,
    target::{Endpoint, Target},
    upstreams::Upstreams,
};
use crate::json::Object;

/// How much of an error's body is read.
const ERROR_BODY: usize = 16 << 10;

const MAX_MEDIA_TYPE: usize = 100;

/// A header for bridges of `initialize`, and of each request without a session: which caller it is for, see [`Target::made_for`].
pub(super) const CALLER: &str = "chandlery-caller";

/// A header that only a bridge sets: it removes the header from answers of its server.
pub(super) const NOT_TAKEN: &str = "chandlery-not-taken";

/// Tells a bridge which headers of a request are secrets, so that it masks them in what its server writes. The bridge does not pass it on.
const SECRET_HEADERS: &str = "chandlery-secret-headers";

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const JSON_OR_EVENTS: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// How an answer begins.
pub(super) enum Begun {
    Json(Body),
    Events(Body),
    /// A JSON-RPC error under an HTTP error status.
    Refused(Bytes),
    SessionLost,
    /// HTTP 400 with this text, which speaks of sessions: the session is lost, or something else is meant. Whether it is JSON.
    SessionDoubted(Bytes, bool),
}

impl Upstreams {
    /// Sends the upstream a cancellation of this request, in the background. The request is `open` until then.
    pub(super) fn tell_cancelled(&self, target: &Arc<Target>, id: u64, open: TaskTrackerToken) {
        let (this, target) = (self.clone(), Arc::clone(target));
        // Not on the thread of the client's connection, which may end with it.
        self.inner.runtime.spawn(async move {
            let _open = open;
            let Some(session) = this.inner.sessions.get(&target.key).await else {
                return;
            };
            let body = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"nobody waits for the answer any more"}}}}"#
            );
            this.send(&target, &session, body.into()).await;
        });
    }

    /// Sends a notification, or an answer to the upstream; failures are only logged. A server that does not accept them has a few open, not
    /// one for each of its requests: a message that gets no permit in time is not sent. A modern server gets requests alone: what ends one is the
    /// end of its stream.
    pub(super) async fn send(&self, target: &Target, session: &Session, body: Bytes) {
        if session.era == Era::Modern {
            return;
        }
        let within = self.inner.limits.side_message;
        let Ok(Ok(_place)) = timeout(within, session.side_messages.acquire()).await else {
            return;
        };
        match self.post(target, Some(session), body, within).await {
            Ok(response) => rest::read(response.into_body()),
            Err(error) => {
                tracing::debug!(installation.uid = %target.installation(), error = %error, "the upstream refused a message");
            }
        }
    }

    pub(super) async fn post(
        &self,
        target: &Target,
        session: Option<&Session>,
        body: Bytes,
        within: Duration,
    ) -> Result<Response<Body>, UpstreamError> {
        self.post_with(target, session, HeaderMap::new(), body, within).await
    }

    /// What each message in this session is sent with, prepared; `None`: it is not the same for all, or each is sent with [`Upstreams::post`].
    pub(super) fn prepare_post(&self, target: &Target, session: &Session) -> Option<PreparedPost> {
        if session.era == Era::Modern {
            return None;
        }
        let endpoint = &target.key.endpoint;
        let headers = headers(target.headers.clone(), endpoint, Some(session));
        self.pool(endpoint, target.secret).prepare(&endpoint.uri, &headers)
    }

    /// As [`Upstreams::post`], with what is prepared for this target and its session.
    pub(super) async fn post_prepared(
        &self,
        target: &Target,
        post: &PreparedPost,
        body: &Bytes,
        within: Duration,
    ) -> Result<Response<Body>, UpstreamError> {
        let exchange = async {
            let sent = post.send(body, within).await;
            begun(
                &target.key.endpoint,
                sent.map(|response| response.map(Body::Own)),
                within,
            )
        };
        self.admitted(target, exchange).await
    }

    /// With further headers.
    pub(super) async fn post_with(
        &self,
        target: &Target,
        session: Option<&Session>,
        more: HeaderMap,
        body: Bytes,
        within: Duration,
    ) -> Result<Response<Body>, UpstreamError> {
        let mut request = message(target, session, body);
        request.headers_mut().extend(more);
        if let Some(caller) = &target.caller
            && session.is_none_or(|session| session.era == Era::Modern)
        {
            request.headers_mut().insert(CALLER, caller.clone());
        }
        self.exchange(target, request, within).await
    }

    /// Opens a stream of a session: behind the event with this id, or the one for what belongs to no call.
    pub(super) async fn open_stream(
        &self,
        target: &Target,
        session: &Session,
        last: Option<HeaderValue>,
    ) -> Result<Response<Body>, UpstreamError> {
        let mut request = http::Request::new(Full::default());
        let mut headers = headers(target.headers.clone(), &target.key.endpoint, Some(session));
        headers.remove(CONTENT_TYPE);
        headers.insert(ACCEPT, EVENTS);
        headers.extend(last.map(|last| (LAST_EVENT_ID, last)));
        *request.headers_mut() = headers;
        self.exchange(target, request, self.inner.limits.headers).await
    }

    /// The connections for requests to this endpoint, with a secret or without.
    fn pool(&self, endpoint: &Endpoint, secret: bool) -> &Pool {
        if endpoint.hosted {
            &self.inner.hosted
        } else if secret && !endpoint.is_tls() {
            &self.inner.plain_with_secrets
        } else {
            &self.inner.remote
        }
    }

    async fn exchange(
        &self,
        target: &Target,
        request: http::Request<Full<Bytes>>,
        within: Duration,
    ) -> Result<Response<Body>, UpstreamError> {
        let exchange = self.exchange_at_once(target, request, within);
        self.admitted(target, exchange).await
    }

    /// Makes this exchange with the server, if it is there, and takes into account what came of it.
    async fn admitted(
        &self,
        target: &Target,
        exchange: impl Future<Output = Result<Response<Body>, UpstreamError>>,
    ) -> Result<Response<Body>, UpstreamError> {
        if target.key.endpoint.hosted {
            return exchange.await;
        }
        // What nobody waits for asks the server itself: as a trial, it would have calls refused meanwhile.
        if !target.background
            && let Some(trial) = self.inner.circuits.admit(target)?
        {
            Box::pin(self.try_again(target, trial)).await?;
        }
        let exchanged = exchange.await;
        self.learn(target, &exchanged).await;
        exchanged
    }

    /// The same, whether the server was there the last time or not.
    pub(super) async fn exchange_at_once(
        &self,
        target: &Target,
        request: http::Request<Full<Bytes>>,
        within: Duration,
    ) -> Result<Response<Body>, UpstreamError> {
        let endpoint = &target.key.endpoint;
        let sent = self.pool(endpoint, target.secret).request(&endpoint.uri, request);
        let sent = timeout(within, sent).await;
        begun(endpoint, sent.unwrap_or(Err(PoolError::Late)), within)
    }

    /// Ends a session (DELETE); failures are only logged.
    pub(super) async fn delete(&self, endpoint: &Endpoint, own: HeaderMap, session: &Session) {
        let secret = own.values().any(HeaderValue::is_sensitive);
        let mut request = http::Request::new(Full::default());
        *request.method_mut() = Method::DELETE;
        *request.headers_mut() = headers(own, endpoint, Some(session));
        let ended = self.pool(endpoint, secret).request(&endpoint.uri, request);
        match timeout(self.inner.limits.side_message, ended).await {
            Ok(Ok(response)) => rest::read(response.into_body()),
            _ => tracing::debug!("the upstream was not told that a session is over"),
        }
    }

    /// Interprets status and headers.
    pub(super) async fn begin(
        &self,
        target: &Target,
        response: Response<Body>,
        session: Option<&Session>,
    ) -> Result<Begun, UpstreamError> {
        if response.is_plain_json() {
            return self.json(response.into_body());
        }
        let status = response.status();
        if let Some(error) = challenge::refusal(&response) {
            return Err(error);
        }
        if status.is_redirection() {
            return Err(UpstreamError::invalid(format!(
                "it answers with a redirect (HTTP {}), which is not followed",
                status.as_u16()
            )));
        }
        let has_session = session.is_some_and(|session| session.id.is_some());
        if status == StatusCode::NOT_FOUND && has_session {
            return Ok(Begun::SessionLost);
        }
        if is_encoded(response.headers()) {
            return Err(UpstreamError::invalid("it is compressed, which was not requested"));
        }
        let kind = media_type(response.headers()).into_owned();
        let body = response.into_body();
        if !status.is_success() {
            return Box::pin(self.refusal(target, status, &kind, body, has_session)).await;
        }
        match &*kind {
            "application/json" => self.json(body),
            "text/event-stream" => Ok(Begun::Events(body)),
            _ if status == StatusCode::ACCEPTED => Err(UpstreamError::invalid("it answers a request with HTTP 202")),
            "" => Err(UpstreamError::invalid("it has no content type")),
            other if is_media_type(other) => Err(UpstreamError::invalid(format!("it is of type {other}"))),
            _ => Err(UpstreamError::invalid("its content type is not valid")),
        }
    }

    /// JSON, unless its length is known to be too large.
    fn json(&self, body: Body) -> Result<Begun, UpstreamError> {
        let length = http_body::Body::size_hint(&body).exact();
        if length.is_some_and(|length| length > self.inner.limits.max_message as u64) {
            return Err(self.too_large());
        }
        Ok(Begun::Json(body))
    }

    async fn refusal(
        &self,
        target: &Target,
        status: StatusCode,
        kind: &str,
        body: Body,
        has_session: bool,
    ) -> Result<Begun, UpstreamError> {
        let start = self.read_start(body).await;
        let is_json = kind == "application/json" && start.len() < ERROR_BODY;
        // Some servers answer 400 where the specification says 404.
        if status == StatusCode::BAD_REQUEST && has_session && mentions_session(&start) {
            return Ok(Begun::SessionDoubted(start, is_json));
        }
        let is_message = is_json && is_message(&start);
        if is_json && let Some(what) = Failure::in_front(status) {
            match is_message {
                true => self.inner.circuits.answered(target),
                false => Box::pin(self.failed(target, what, "")).await,
            }
        }
        if is_message {
            return Ok(Begun::Refused(start));
        }
        let what = match status {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE => {
                ", so that its entry may have a URL at which there is no MCP server"
            }
            _ => "",
        };
        Err(UpstreamError::invalid(format!("HTTP {}{what}", status.as_u16())))
    }

    /// The start of an error's body; nothing if it does not come in time.
    pub(super) async fn read_start(&self, body: Body) -> Bytes {
        let start = timeout(self.inner.limits.initialize, read_start(body)).await;
        start.unwrap_or_default()
    }
}

/// Whether this is a message of MCP, or several.
pub(super) fn is_message(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| {
        text.trim_start().starts_with('[') || Object::parse(text).is_ok_and(|object| object.get("jsonrpc").is_some())
    })
}

/// The answer of this endpoint to a request that was sent, if it has begun within this time.
fn begun(
    endpoint: &Endpoint,
    sent: Result<Response<Body>, PoolError>,
    within: Duration,
) -> Result<Response<Body>, UpstreamError> {
    match sent {
        Ok(response) if endpoint.hosted => not_taken(&response).map_or(Ok(response), Err),
        Ok(response) => Ok(response),
        Err(PoolError::Connect(error)) => Err(UpstreamError::Unreachable(connect::cause(&*error))),
        Err(PoolError::Exchange(error)) => {
            let what = format!("the connection broke: {}", connect::cause(&*error));
            Err(UpstreamError::broken(&*error, endpoint, what))
        }
        Err(PoolError::Malformed(malformed)) => Err(UpstreamError::invalid(malformed.to_string())),
        Err(PoolError::Late) => Err(UpstreamError::Timeout {
            what: "begin to answer",
            within,
        }),
    }
}

/// Why a bridge did not pass a request on. It may be sent again: to the successor of a server that is stopping, or later.
fn not_taken(response: &Response<Body>) -> Option<UpstreamError> {
    if response.status() != StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    Some(match response.headers().get(NOT_TAKEN)?.as_bytes() {
        b"calls" => UpstreamError::TooManyRequests,
        b"full" => UpstreamError::Full,
        b"share" => UpstreamError::ShareUsed,
        _ => UpstreamError::NotTaken,
    })
}

/// A POST of a message.
pub(super) fn message(target: &Target, session: Option<&Session>, body: Bytes) -> http::Request<Full<Bytes>> {
    let mut request = http::Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.headers_mut() = headers(target.headers.clone(), &target.key.endpoint, session);
    request
}

/// The request's headers: the target's `headers`, and those of MCP, which replace them.
fn headers(mut headers: HeaderMap, endpoint: &Endpoint, session: Option<&Session>) -> HeaderMap {
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(ACCEPT, JSON_OR_EVENTS);
    if endpoint.hosted && endpoint.uri.port().is_none() {
        // A Unix socket has no host, and servers refuse unknown names.
        headers.insert(HOST, HeaderValue::from_static("localhost"));
    }
    headers.remove(SECRET_HEADERS);
    if endpoint.hosted
        && let Some(names) = secret_names(&headers)
    {
        headers.insert(SECRET_HEADERS, names);
    }
    if let Some(session) = session {
        if let Some(id) = &session.id {
            headers.insert("mcp-session-id", id.clone());
        }
        if let Some(version) = &session.version {
            headers.insert("mcp-protocol-version", version.clone());
        }
    }
    headers
}

/// The names of the headers that are secrets, separated by commas.
fn secret_names(headers: &HeaderMap) -> Option<HeaderValue> {
    let secret = headers.iter().filter(|(_, value)| value.is_sensitive());
    let names: Vec<&str> = secret.map(|(name, _)| name.as_str()).collect();
    (!names.is_empty()).then(|| HeaderValue::from_str(&names.join(",")).ok())?
}

/// Whether this is safe to repeat in a message to people.
fn is_media_type(kind: &str) -> bool {
    let mut bytes = kind.bytes();
    kind.len() <= MAX_MEDIA_TYPE && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"/+-._".contains(&byte))
}

pub(super) fn mentions_session(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_ascii_lowercase();
    text.contains("session") || text.contains("not initialized")
}

/// The start of an error's body; nothing if it breaks off, since it may be quoted only if it is whole.
async fn read_start<B>(mut body: B) -> Bytes
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut start = BytesMut::new();
    while start.len() < ERROR_BODY {
        match body.frame().await {
            Some(Ok(frame)) => start.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Some(Err(_)) => return Bytes::new(),
            None => break,
        }
    }
    start.truncate(ERROR_BODY);
    start.freeze()
}

#[cfg(test)]
mod tests {
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test]
    async fn an_error_that_breaks_off_is_not_read() {
        let start = || Ok(Frame::data(Bytes::from_static(b"no s3cr3t")));
        let read = |frames: Vec<Result<Frame<Bytes>, &'static str>>| {
            read_start(StreamBody::new(futures::stream::iter(frames)))
        };
        assert_eq!(read(vec![start()]).await, "no s3cr3t");
        assert_eq!(read(vec![start(), Err("broken off")]).await, "");
    }
}
