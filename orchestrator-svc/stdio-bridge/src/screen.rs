//! Removes secrets from what an HTTP server answers with, except the results of calls.

mod events;
mod held;

use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};

pub(crate) use self::held::Rules;
use self::{events::Events, held::Held};
use crate::{
    answer::{Body, BoxError},
    redact::Redactor,
};

/// A body that passes.
enum Screen {
    /// One message.
    Whole(Held),
    Events(Box<Events>),
}

/// The response, with the secrets masked in the JSON-RPC messages in it.
pub(crate) fn screened(mut response: Response<Incoming>, rules: Rules) -> Response<Body> {
    let redactor = Arc::clone(&rules.redactor);
    let Some(screen) = screen(response.headers(), rules) else {
        hide_secret_kind(response.headers_mut(), &redactor);
        return response.map(|body| body.map_err(Into::into).boxed_unsync());
    };
    // Masked, it has another.
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.map(|body| {
        let parts = stream::try_unfold(Some((body, screen)), move |left| next_part(left, Arc::clone(&redactor)));
        StreamBody::new(parts).boxed_unsync()
    })
}

/// What passes next of a body, and what is left of it.
async fn next_part(
    left: Option<(Incoming, Screen)>,
    redactor: Arc<Redactor>,
) -> Result<Option<(Frame<Bytes>, Option<(Incoming, Screen)>)>, BoxError> {
    let Some((mut body, mut screen)) = left else {
        return Ok(None);
    };
    loop {
        let data = match body.frame().await.transpose()?.map(Frame::into_data) {
            Some(Ok(data)) => Some(data),
            // Trailers, which MCP has none of.
            Some(Err(_)) => continue,
            None => None,
        };
        let (is_last, is_long) = (data.is_none(), screen.is_long());
        let work = move || {
            let out = match data {
                Some(data) => screen.push(&data),
                None => screen.finish(),
            };
            (screen, Bytes::from(out))
        };
        let out;
        (screen, out) = match is_long {
            true => redactor.aside.begin(work).await.await?,
            false => work(),
        };
        if is_last {
            return Ok((!out.is_empty()).then(|| (Frame::data(out), None)));
        }
        if !out.is_empty() {
            return Ok(Some((Frame::data(out), Some((body, screen)))));
        }
    }
}

/// Replaces a media type that has a secret in it: the gateway quotes one that it does not accept.
fn hide_secret_kind(headers: &mut HeaderMap, redactor: &Redactor) {
    let kind = headers.get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| redactor.mask(&String::from_utf8_lossy(kind.as_bytes()), 0).is_some()) {
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
    }
}

/// `None`: the response has no JSON-RPC. A stated length decides nothing: the body may break off before, and the gateway may quote what has come.
fn screen(headers: &HeaderMap, rules: Rules) -> Option<Screen> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next()?.trim();
    if kind.eq_ignore_ascii_case("text/event-stream") {
        Some(Screen::Events(Box::new(Events::new(rules))))
    } else {
        let is_json = kind.eq_ignore_ascii_case("application/json");
        is_json.then(|| Screen::Whole(Held::new(rules)))
    }
}

impl Screen {
    /// Whether so much is held that to mask it may take long.
    fn is_long(&self) -> bool {
        match self {
            Self::Whole(held) => held.is_long(),
            Self::Events(events) => events.is_long(),
        }
    }

    /// Takes a piece of the body, and returns what can be passed on.
    fn push(&mut self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Whole(held) => held.push(data).unwrap_or_default(),
            Self::Events(events) => events.push(data),
        }
    }

    /// What is held, masked.
    fn finish(&mut self) -> Vec<u8> {
        match self {
            Self::Whole(held) => held.finish().unwrap_or_default(),
            Self::Events(events) => events.finish(),
        }
    }
}

#[cfg(test)]
mod tests;
