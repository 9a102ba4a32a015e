//! A POST: one message, or a batch.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use service_kit::{
    app::{self, RequestBody},
    json_answer::JsonAnswer,
    quota::until_sent,
    turns::{SHORT, in_place, on_runtime},
};

use super::{
    body,
    call::Answer,
    initialize, modern,
    pieces::Pieces,
    refusal::{IN_A_SECOND, later, plain, too_many},
    resumable::Live,
    rpc::{self, INVALID_REQUEST, Kind, Message, PARSE_ERROR, TRANSPORT_ERROR},
    session::SESSION_ID,
    visit::Visit,
};
use crate::{buffers::Unread, json, upstream::Revision};

/// The largest message taken from a client.
const MAX_BODY: usize = 4 << 20;

impl Visit {
    pub(super) async fn post(self, body: RequestBody) -> app::Answer {
        if !self.at.head.is_json {
            return plain(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                TRANSPORT_ERROR,
                "Content-Type must be application/json",
            )
            .into();
        }
        if !self.at.head.takes_json {
            let both = "Accept must include application/json and text/event-stream";
            return plain(StatusCode::NOT_ACCEPTABLE, TRANSPORT_ERROR, both).into();
        }
        let at = Arc::clone(&self.at);
        let sender = Arc::clone(&self.who.identified.subject);
        let (body, _room) = match at.mcp.bodies.read(body, &sender, MAX_BODY).await {
            Ok(read) => read,
            Err(unread) => return self::unread(unread).into(),
        };
        if body.len() <= SHORT {
            return self.message(body).await;
        }
        // The thread that serves this connection serves others, and has no other thread to give them to.
        on_runtime(body.len(), &at.mcp.runtime, Box::pin(self.message(body))).await
    }

    /// Answers the message or batch in a body.
    async fn message(self, body: Bytes) -> app::Answer {
        // It counts as one message, whatever it contains.
        if let Err(exceeded) = self.charge() {
            return too_many(&exceeded, None).into();
        }
        let own_turn = self.turn(&body).await;
        let Ok(text) = in_place(body.len(), || std::str::from_utf8(&body)).await else {
            return plain(StatusCode::BAD_REQUEST, PARSE_ERROR, "the message is not UTF-8").into();
        };
        if text.trim_ascii_start().starts_with('[') {
            if self.at.head.is_modern {
                let why = "this revision has no batches: send each message alone";
                return plain(StatusCode::BAD_REQUEST, INVALID_REQUEST, why).into();
            }
            return Box::pin(self.batch(text, own_turn)).await.into();
        }
        let message = match in_place(text.len(), || Message::parse(text)).await {
            Ok(message) => message,
            Err(malformed) => return malformed.error.respond(StatusCode::BAD_REQUEST, malformed.id).into(),
        };
        drop(own_turn);
        if self.at.head.is_modern || modern::speaks(&message) {
            return Box::pin(self.modern(&message)).await.into();
        }
        let Kind::Request { id, method } = &message.kind else {
            // Not counted: a caller with the maximum of calls in progress can still cancel them.
            return self.answered(None, &message).await;
        };
        match self.begin_call() {
            Ok(in_flight) if method == "initialize" => {
                until_sent(in_flight, self.initialize(id, message.params.as_ref())).into()
            }
            Ok(in_flight) => match self.answered(Some(id), &message).await {
                app::Answer::Json(answer) => app::Answer::Json(JsonAnswer {
                    in_flight: Some(in_flight),
                    ..answer
                }),
                app::Answer::Other(response) => until_sent(in_flight, response).into(),
            },
            Err(exceeded) => too_many(&exceeded, Some(id)).into(),
        }
    }

    /// The answer to a message of a session; `id` is that of a request.
    async fn answered(&self, id: Option<&str>, message: &Message<'_>) -> app::Answer {
        let session = match self.session(id) {
            Ok(session) => session,
            Err(response) => return (*response).into(),
        };
        let stream = match self.answer(&session, message, None).await {
            Answer::Message(pieces) => return json(pieces),
            Answer::Nothing => return StatusCode::ACCEPTED.into_response().into(),
            Answer::Stream(messages) if self.at.head.takes_events => {
                let live = Live::new(
                    messages.asking(),
                    &self.at.mcp.resumable,
                    session.id,
                    &self.who.identified.subject,
                );
                // Clients of older revisions fail on events without data.
                return body::events(live.into_events(0, session.revision >= Revision::V2025_11_25)).into();
            }
            stream @ Answer::Stream(_) => stream,
        };
        match Box::pin(stream.into_message()).await {
            Some(message) => json(message),
            None => StatusCode::ACCEPTED.into_response().into(),
        }
    }

    fn initialize(&self, id: &str, params: Option<&json::Object<'_>>) -> Response {
        let wish = match initialize::wish(params) {
            Ok(wish) => wish,
            Err(error) => return error.respond(StatusCode::OK, Some(id)),
        };
        if let Err(exceeded) = self.at.mcp.quotas.session(&self.who.identified.charged_to) {
            return too_many(&exceeded, Some(id));
        }
        let subject = &self.who.identified.subject;
        let now = self.at.mcp.clock.now();
        let handle = self.at.mcp.sessions.seal(
            wish.revision,
            wish.opens_links,
            &wish.profile,
            subject,
            &self.who.consumer.name,
            now,
        );
        let result = initialize::result(&self.who.consumer, wish.revision);
        let mut response = rpc::json_response(rpc::result(id, &result));
        let handle = HeaderValue::from_str(&handle).expect("base64url is a header value");
        response.headers_mut().insert(SESSION_ID, handle);
        response
    }
}

fn json(pieces: Pieces) -> app::Answer {
    let in_flight = None;
    app::Answer::Json(JsonAnswer { pieces, in_flight })
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
