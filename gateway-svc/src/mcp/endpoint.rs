//! One HTTP request at an MCP endpoint.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::ALLOW};
use service_kit::quota::until_sent;

use super::{
    Mcp, body,
    known::Known,
    media::accepts,
    modern,
    refusal::{plain, refused, too_many, unavailable},
    resumable::Place,
    rpc::TRANSPORT_ERROR,
    standing::{self, Holder},
    visit::Visit,
};
use crate::{
    domain::{ConsumerKind, ConsumerRef},
    identity::Refusal,
    resolve,
};

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
    let at = (kind, slug);
    let method = head.method;
    let visit = match known(&mcp, came, at, head.headers) {
        Ok(visit) => visit,
        Err(headers) => match Box::pin(enter(mcp, came, at, method == Method::POST, headers)).await {
            Ok(visit) => visit,
            Err(refused) => return *refused,
        },
    };
    // Messages are charged once they have arrived; ending a session is free.
    if !matches!(method, Method::POST | Method::DELETE)
        && let Err(exceeded) = visit.mcp.quotas.requests(&visit.identified.charged_to, 1)
    {
        return too_many(&exceeded, None);
    }
    match method {
        Method::POST => visit.post(body).await,
        _ if modern::named_by(&visit.headers) => not_allowed("use POST", "POST"),
        Method::GET => visit.get().await,
        Method::DELETE => visit.delete(),
        _ => not_allowed("use POST, GET or DELETE", "POST, GET, DELETE"),
    }
}

/// A caller whom this thread knows; else returns the headers.
fn known(mcp: &Arc<Mcp>, came: Instant, at: (ConsumerKind, &str), headers: HeaderMap) -> Result<Visit, HeaderMap> {
    let known = || {
        let snapshot = mcp.store.load().ok()?;
        mcp.known.find(&headers, at, &snapshot, mcp.clock.now())
    };
    match known() {
        Some(known) => Ok(Visit {
            mcp: Arc::clone(mcp),
            came,
            identified: known.identified.clone(),
            consumer: Arc::clone(&known.consumer),
            headers,
            known: Some(known),
        }),
        None => Err(headers),
    }
}

/// Identifies a caller, whom this thread knows from then on.
async fn enter(
    mcp: Arc<Mcp>,
    came: Instant,
    (kind, slug): (ConsumerKind, &str),
    is_post: bool,
    headers: HeaderMap,
) -> Result<Visit, Box<Response>> {
    let name = ConsumerRef::new(kind, slug);
    let identified = match mcp.identity.identify(&headers, Some(&name)).await {
        Ok(identified) => identified,
        Err(refusal) => return Err(Box::new(refused(&mcp, &name, &refusal))),
    };
    let entered = mcp.store.load().and_then(|snapshot| {
        let consumer = resolve::consumer(&snapshot, &identified.caller, &name)?;
        Ok((snapshot, consumer))
    });
    let (snapshot, consumer) = entered.map_err(|error| Box::new(unavailable(&error)))?;
    // They were identified by another snapshot, maybe, and are known by this one.
    if !mcp.identity.still(&snapshot, &identified) {
        let refusal = Refusal::Token("it was revoked, or its user deactivated, just now".to_owned());
        return Err(Box::new(refused(&mcp, &name, &refusal)));
    }
    // Streams are opened once.
    let known = is_post
        .then(|| {
            Known::new(
                &headers,
                &identified,
                &consumer,
                &snapshot,
                &mcp.sessions,
                mcp.clock.now(),
            )
        })
        .flatten()
        .map(Arc::new);
    if let Some(known) = &known {
        mcp.known.keep(&headers, known);
    }
    Ok(Visit {
        mcp,
        came,
        identified,
        consumer,
        headers,
        known,
    })
}

fn not_allowed(why: &str, allowed: &'static str) -> Response {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, TRANSPORT_ERROR, why);
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

impl Visit {
    /// The stream of what concerns no call, or the rest of one that broke.
    async fn get(self) -> Response {
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
        let last = self.headers.get("last-event-id").and_then(|id| id.to_str().ok());
        match last.and_then(|last| self.mcp.resumable.place(last)) {
            None => {}
            Some(Place::Here { stream, number }) => {
                if let Some(live) = self.mcp.resumable.take(session.id, stream, number).await {
                    return until_sent(open, body::events(live.into_events(number, false)));
                }
                return over();
            }
            Some(Place::Elsewhere) => return over(),
        }
        let last = last.map(str::to_owned);
        let listening = self.mcp.sessions.listen(&session, &self.mcp.stop);
        let consumer = self.consumer.name.clone();
        body::events_and_comments(standing::events(Box::new(Holder {
            mcp: self.mcp,
            identified: self.identified.without_token(),
            consumer,
            session,
            last_event: last,
            open,
            listening,
        })))
    }

    fn delete(&self) -> Response {
        match self.session(None) {
            Ok(session) => {
                self.mcp.sessions.end(&session);
                let token = self.identified.caller.token.clone();
                self.mcp.calls.end_client(session.client(), token);
                StatusCode::NO_CONTENT.into_response()
            }
            Err(response) => *response,
        }
    }
}

/// Nobody has the rest of a stream. With this status, a client knows that there is none; some ask for it although they have the whole answer.
fn over() -> Response {
    let why = "nothing follows this event: its stream has ended, and is not kept for longer than 30 s, nor where its answer is long or many others have ended since; or it was another replica's. Send the request again if its answer did not come, and it may be carried out twice";
    not_allowed(why, "POST, DELETE")
}
