//! Streamable HTTP of 2026-07-28, for the clients of a server that speaks it: no session, and no request of the server's.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};

use super::{Endpoint, SESSION, accepts, id, not_taken, session_ended, whole};
use crate::{
    answer::{Body, empty, json},
    envelope::{INVALID_REQUEST, Kind, Members, PARSE_ERROR, error},
    in_flight::InFlight,
    spec::Limits,
    stdio::{METHOD_NOT_FOUND, is_subscription},
};

/// What a client sends.
pub(crate) struct Asked {
    pub(crate) headers: HeaderMap,
    body: Bytes,
}

impl Asked {
    /// Reads a request, or answers it.
    pub(crate) async fn read<B>(request: Request<B>, limits: &Limits) -> Result<Self, Box<Response<Body>>>
    where
        B: hyper::body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        // Of a server that was of an older revision.
        if request.headers().contains_key(SESSION) {
            return Err(Box::new(session_ended()));
        }
        if request.method() != Method::POST {
            return Err(Box::new(empty(StatusCode::METHOD_NOT_ALLOWED)));
        }
        let (parts, body) = request.into_parts();
        let body = whole(body, limits).await?;
        let headers = parts.headers;
        Ok(Self { headers, body })
    }

    /// The request for the server, or the answer where there is none. `discovered`: the result of `server/discover`.
    pub(crate) fn request(&self, discovered: &str) -> Result<Members<'_>, Box<Response<Body>>> {
        let refused = |code, why| {
            let body = error("null", code, why);
            Err(Box::new(json(StatusCode::BAD_REQUEST, body)))
        };
        let Some(message) = Members::parse(&self.body) else {
            return refused(PARSE_ERROR, "The body is not one JSON object.");
        };
        let method = match message.kind() {
            Some(Kind::Request { method }) => method,
            // A client closes the stream of a request to cancel it, and is asked nothing.
            Some(Kind::Notification { .. } | Kind::Response) => return Err(Box::new(empty(StatusCode::ACCEPTED))),
            None => return refused(INVALID_REQUEST, "Not a JSON-RPC 2.0 message."),
        };
        Err(Box::new(match method.as_str() {
            "server/discover" => json(
                StatusCode::OK,
                format!(r#"{{"jsonrpc":"2.0","id":{},"result":{discovered}}}"#, id(&message)),
            ),
            "initialize" | "ping" => {
                let why = "This server speaks MCP 2026-07-28, which has no such method.";
                json(StatusCode::NOT_FOUND, error(id(&message), METHOD_NOT_FOUND, why))
            }
            _ => return Ok(message),
        }))
    }
}

impl Endpoint {
    /// Answers a client of a server of 2026-07-28.
    pub(super) async fn modern<B>(&self, request: Request<B>, discovered: &str, in_flight: &InFlight) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let asked = match Asked::read(request, &self.limits).await {
            Ok(asked) => asked,
            Err(answer) => return *answer,
        };
        match asked.request(discovered) {
            Ok(message) => self.pass(&message, &asked.headers, in_flight).await,
            Err(answer) => *answer,
        }
    }

    /// Passes a request to the server.
    pub(crate) async fn pass(
        &self,
        message: &Members<'_>,
        headers: &HeaderMap,
        in_flight: &InFlight,
    ) -> Response<Body> {
        let Some(admitted) = in_flight.admit() else {
            return not_taken(id(message));
        };
        let response = self.call(message, "", accepts(headers, "text/event-stream")).await;
        // A stop does not wait for streams of notifications.
        match is_subscription(message) {
            true => response,
            false => admitted.until_answered(response),
        }
    }
}
