//! HTTP requests at an MCP endpoint.

use std::{sync::Arc, time::Instant};

use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use http::{HeaderValue, Method, StatusCode, header::ALLOW};
use service_kit::{
    app::{self, Answer, RequestBody},
    boxed::boxed,
    quota::until_sent,
};

use super::{
    body,
    caller_at::CallerAt,
    endpoint::Endpoint,
    known::Known,
    refusal::{plain, refused, too_many, unavailable},
    resumable::Place,
    rpc::TRANSPORT_ERROR,
    standing::{self, Holder},
    visit::Visit,
};
use crate::{identity::Refusal, resolve};

impl Endpoint {
    /// Answers a request with this body.
    pub(super) async fn serve(self: Arc<Self>, body: RequestBody) -> Answer {
        let came = Instant::now();
        if !self.head.is_permitted {
            return plain(
                StatusCode::FORBIDDEN,
                TRANSPORT_ERROR,
                "this host or origin may not use this endpoint",
            )
            .into();
        }
        let visit = match self.known() {
            Ok(known) => Visit {
                came,
                who: Arc::clone(&known.who),
                known: Some(known),
                at: self,
            },
            Err(stale) => match Box::pin(enter(self, came, stale)).await {
                Ok(visit) => visit,
                Err(refused) => return (*refused).into(),
            },
        };
        let method = visit.at.head.method();
        // Messages are charged once they have arrived; ending a session is free.
        if !matches!(*method, Method::POST | Method::DELETE)
            && let Err(exceeded) = visit.charge()
        {
            return too_many(&exceeded, None).into();
        }
        match *method {
            Method::POST => visit.post(body).await,
            _ if visit.at.head.is_modern => not_allowed("use POST", "POST").into(),
            Method::GET => visit.get().await.into(),
            Method::DELETE => visit.delete().into(),
            _ => not_allowed("use POST, GET or DELETE", "POST, GET, DELETE").into(),
        }
    }
}

impl app::Endpoint for Endpoint {
    fn answer(self: Arc<Self>, body: RequestBody) -> BoxFuture<'static, Answer> {
        boxed(|| self.serve(body))
    }
}

/// Identifies a caller, whom this thread knows from then on.
async fn enter(at: Arc<Endpoint>, came: Instant, stale: Option<Arc<Known>>) -> Result<Visit, Box<Response>> {
    let (mcp, name, headers) = (&at.mcp, &at.name, at.head.headers());
    let identified = match mcp.identity.identify(headers, Some(name)).await {
        Ok(identified) => identified,
        Err(refusal) => return Err(Box::new(refused(mcp, name, &refusal))),
    };
    let entered = mcp.store.load().and_then(|snapshot| {
        let consumer = resolve::consumer(&snapshot, &identified.caller, name)?;
        Ok((snapshot, consumer))
    });
    let (snapshot, consumer) = entered.map_err(|error| Box::new(unavailable(&error)))?;
    // They were identified by another snapshot, maybe, and are known by this one.
    if !mcp.identity.still(&snapshot, &identified) {
        let refusal = Refusal::Token("it was revoked, or its user deactivated, just now".to_owned());
        return Err(Box::new(refused(mcp, name, &refusal)));
    }
    let (who, now) = (Arc::new(CallerAt { identified, consumer }), mcp.clock.now());
    // Streams are opened once.
    let known = (*at.head.method() == Method::POST)
        .then(|| {
            let same = stale.and_then(|stale| stale.renewed(&who, &snapshot, now));
            same.or_else(|| Known::new(headers, &who, &snapshot, &mcp.sessions, &mcp.quotas, now))
        })
        .flatten()
        .map(Arc::new);
    if let Some(known) = &known {
        at.keep(known);
    }
    Ok(Visit { came, who, known, at })
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
        if !self.at.head.takes_events {
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
        let open = match self.at.mcp.quotas.stream(&self.who.identified.subject) {
            Ok(open) => open,
            Err(exceeded) => return too_many(&exceeded, None),
        };
        let last = self
            .at
            .head
            .headers()
            .get("last-event-id")
            .and_then(|id| id.to_str().ok());
        match last.and_then(|last| self.at.mcp.resumable.place(last)) {
            None => {}
            Some(Place::Here { stream, number }) => {
                if let Some(live) = self.at.mcp.resumable.take(session.id, stream, number).await {
                    return until_sent(open, body::events(live.into_events(number, false)));
                }
                return over();
            }
            Some(Place::Elsewhere) => return over(),
        }
        let last = last.map(str::to_owned);
        let listening = self.at.mcp.sessions.listen(&session, &self.at.mcp.stop);
        let consumer = self.who.consumer.name.clone();
        body::events_and_comments(standing::events(Box::new(Holder {
            mcp: Arc::clone(&self.at.mcp),
            identified: self.who.identified.clone().without_token(),
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
                self.at.mcp.sessions.end(&session);
                let token = self.who.identified.caller.token.clone();
                self.at.mcp.calls.end_client(session.client(), token);
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
