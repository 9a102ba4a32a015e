//! The answer to a request, whatever reads and writes HTTP.

use std::{convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
    routing::future::RouteFuture,
};
use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderValue, Request, StatusCode, header, request::Parts};
use service_kit::{
    Peer,
    app::{Answer, Endpoint, RequestBody},
    edge::{KeepOpen, Phase, Served, request_body},
    http1::HeadPrefix,
    json_answer::json_response,
};
use tower::Service as _;

use super::{Site, load::Load};
use crate::{guard, headers, health};

/// Answers the requests of one connection.
pub(super) struct Answering {
    pub(super) site: Site,
    pub(super) peer: Peer,
    pub(super) phase: Arc<Phase>,
    pub(super) keep_open: KeepOpen,
    pub(super) client_timeout: Duration,
    /// Of the lane that has the connection.
    pub(super) load: Arc<Load>,
    pub(super) json: HeadPrefix,
}

/// The start of the head of each answer with JSON, as all of them are made.
pub(super) fn json_head(https: bool) -> HeadPrefix {
    let mut response = json_response([]);
    headers::harden(&mut response, https);
    HeadPrefix::new(response.status(), response.headers())
}

impl Answering {
    /// A body of a request, which must come in time.
    pub(super) fn limited<B>(&self, body: B) -> Body
    where
        B: http_body::Body<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static,
    {
        Body::new(request_body(body, self.client_timeout, Arc::clone(&self.phase)))
    }

    /// What answers the requests with this head.
    pub(super) fn way(&self, head: Arc<Parts>) -> Way {
        if let Some(refusal) = guard::refusal(&self.site.hosts, &head.uri, &head.headers) {
            return Way::Refused(Box::new(refusal));
        }
        if self.phase.is_spare() && !health::is_asked(&head.uri) {
            return Way::Refused(Box::new(busy()));
        }
        let direct = self.site.direct.iter().find_map(|direct| (direct.find)(&head));
        direct.map_or_else(|| Way::Routed(head), Way::Direct)
    }

    /// The same as [`answer`](Self::answer), for who has no other way for JSON.
    pub(super) fn respond(
        &self,
        way: Way,
        body: RequestBody,
    ) -> impl Future<Output = (Response, Served)> + Send + use<> {
        let (answer, https) = (self.answer(way, body), self.site.https);
        answer.map(move |(answer, served)| match answer {
            Answer::Json(json) => {
                let mut response = json.into();
                headers::harden(&mut response, https);
                (response, served)
            }
            Answer::Other(response) => (response, served),
        })
    }

    /// Begins to answer a request. It has ended when what comes with the answer is dropped. The head of JSON begins with [`Answering::json`].
    pub(super) fn answer(&self, way: Way, body: RequestBody) -> impl Future<Output = (Answer, Served)> + Send + use<> {
        let served = Served::begin(Arc::clone(&self.phase));
        let counted = self.load.request();
        let (last, https) = (self.phase.is_spare(), self.site.https);
        let answer = self.begin(way, body);
        async move {
            let mut response = match answer {
                // No connection for health checks gets that.
                Coming::Direct(answer) => match answer.await {
                    json @ Answer::Json(_) => return (json, served),
                    Answer::Other(response) => response,
                },
                Coming::Routed(answer) => answer.await.unwrap_or_else(|never| match never {}),
                Coming::Refused(refusal) => *refusal,
            };
            drop(counted);
            headers::harden(&mut response, https);
            if last {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            (response.into(), served)
        }
    }

    /// The same headers as on every answer.
    pub(super) fn refuse(&self, mut refusal: Response) -> Response {
        headers::harden(&mut refusal, self.site.https);
        refusal
    }

    fn begin(&self, way: Way, body: RequestBody) -> Coming {
        match way {
            Way::Direct(endpoint) => Coming::Direct(endpoint.answer(body)),
            Way::Routed(head) => {
                let mut request = Request::from_parts(Arc::unwrap_or_clone(head), Body::from(body));
                request.extensions_mut().insert(self.peer);
                request.extensions_mut().insert(self.keep_open.clone());
                Coming::Routed(Box::pin(self.site.router.clone().call(request)))
            }
            Way::Refused(refusal) => Coming::Refused(refusal),
        }
    }
}

/// What answers a request.
pub(super) enum Way {
    Direct(Arc<dyn Endpoint>),
    Routed(Arc<Parts>),
    Refused(Box<Response>),
}

/// An answer that is to come. What serves a stream of HTTP/2 has room for it until the body is sent: it is small.
enum Coming {
    Direct(Pin<Box<dyn Future<Output = Answer> + Send>>),
    Routed(Pin<Box<RouteFuture<Infallible>>>),
    Refused(Box<Response>),
}

fn busy() -> Response {
    let retry = [(header::RETRY_AFTER, "1")];
    (StatusCode::SERVICE_UNAVAILABLE, retry, "too many connections; retry\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The task of an HTTP/2 stream has room for it as long as the stream is open (`integration-tests/benches/proxy`).
    #[test]
    fn an_answer_that_is_to_come_is_small() {
        assert!(size_of::<Coming>() <= 3 * size_of::<usize>());
    }
}
