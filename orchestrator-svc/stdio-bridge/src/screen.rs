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
use crate::{answer::Body, redact::Redactor};

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
        let frames = stream::unfold((Some(body), screen), |(body, mut screen)| async move {
            let mut body = body?;
            loop {
                let out = match body.frame().await {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => screen.push(&data),
                        // Trailers, which MCP has none of.
                        Err(_) => continue,
                    },
                    Some(Err(error)) => return Some((Err(error.into()), (None, screen))),
                    None => {
                        let last = screen.finish();
                        return (!last.is_empty()).then(|| (Ok(Frame::data(Bytes::from(last))), (None, screen)));
                    }
                };
                if !out.is_empty() {
                    return Some((Ok(Frame::data(Bytes::from(out))), (Some(body), screen)));
                }
            }
        });
        StreamBody::new(frames).boxed_unsync()
    })
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
