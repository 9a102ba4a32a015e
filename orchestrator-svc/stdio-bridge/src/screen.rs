//! Removes secrets from the errors that an HTTP server answers with, while its answers pass.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use http::{Response, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};

use crate::{
    answer::Body,
    envelope::{Kind, Members, error},
    redact::Redactor,
    refusal::{self, UNREADABLE, Unreadable},
    stdio::BAD_ANSWER,
};

/// What is held back until its end has come. What is longer is no error that anybody quotes: it passes as it is.
const HELD: usize = 64 << 10;

/// What can be an answer, as its end shows: the body or, of a stream of events, a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Body,
    Line,
}

/// A body that passes.
struct Screen {
    unit: Unit,
    held: Vec<u8>,
    /// What has come of this unit is longer than [`HELD`], and was passed on.
    passing: bool,
    redactor: Arc<Redactor>,
}

/// The response, with the secrets masked in the JSON-RPC errors in it.
pub(crate) fn screened(mut response: Response<Incoming>, redactor: &Arc<Redactor>) -> Response<Body> {
    let Some(unit) = unit(&response) else {
        return response.map(|body| body.map_err(Into::into).boxed_unsync());
    };
    // Masked, it has another.
    response.headers_mut().remove(header::CONTENT_LENGTH);
    let screen = Screen::new(unit, Arc::clone(redactor));
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

/// `None`: the response has no JSON-RPC, or what it has is too long for an error.
fn unit(response: &Response<Incoming>) -> Option<Unit> {
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let kind = text(header::CONTENT_TYPE)?.split(';').next()?.trim();
    let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<usize>().ok());
    if kind.eq_ignore_ascii_case("text/event-stream") {
        Some(Unit::Line)
    } else {
        let is_short = length.is_none_or(|length| length <= HELD);
        (kind.eq_ignore_ascii_case("application/json") && is_short).then_some(Unit::Body)
    }
}

impl Screen {
    fn new(unit: Unit, redactor: Arc<Redactor>) -> Self {
        Self {
            unit,
            held: Vec::new(),
            passing: false,
            redactor,
        }
    }

    /// Takes a piece of the body, and returns what can be passed on.
    fn push(&mut self, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let unit = self.unit;
        for part in data.split_inclusive(|&byte| unit == Unit::Line && is_end(byte)) {
            let ends = unit == Unit::Line && part.last().copied().is_some_and(is_end);
            if self.passing {
                out.extend_from_slice(part);
                self.passing = !ends;
                continue;
            }
            self.held.extend_from_slice(part);
            if ends {
                out.append(&mut self.finish());
            } else if self.held.len() > HELD {
                out.append(&mut self.held);
                self.passing = true;
            }
        }
        out
    }

    /// What is held, masked.
    fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        let (prefix, message) = match (self.unit, held.strip_prefix(b"data:")) {
            (Unit::Body, _) => ("", held.as_slice()),
            (Unit::Line, Some(message)) => ("data: ", message),
            (Unit::Line, None) => return held,
        };
        let Some(masked) = masked(message, &self.redactor) else {
            return held;
        };
        let end = held.last().filter(|&&byte| self.unit == Unit::Line && is_end(byte));
        let mut out = format!("{prefix}{masked}").into_bytes();
        out.extend(end);
        out
    }
}

fn is_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// A message that is an error, masked; `None` if it is none, or has no secrets.
fn masked(message: &[u8], redactor: &Redactor) -> Option<String> {
    let message = Members::parse(message).filter(|message| message.kind() == Some(Kind::Response))?;
    match refusal::masked(message.get("error")?.get(), redactor) {
        Ok(masked) => Some(message.with("error", &masked?)),
        Err(Unreadable) => Some(error(message.get("id")?.get(), BAD_ANSWER, UNREADABLE)),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    const ERROR: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no s3cr3t-canary"}}"#;
    const MASKED: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no [redacted]"}}"#;
    const RESULT: &str = r#"{"jsonrpc":"2.0", "id":1,"result":"s3cr3t-canary"}"#;

    /// In pieces of this size.
    fn screened(unit: Unit, body: &str, size: usize) -> String {
        let mut screen = Screen::new(unit, Arc::new(Redactor::new(["s3cr3t-canary"])));
        let mut out: Vec<u8> = body
            .as_bytes()
            .chunks(size)
            .flat_map(|piece| screen.push(piece))
            .collect();
        out.extend(screen.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn masks_errors_and_nothing_else() {
        let events = |message: &str| {
            format!(": hello\r\nevent: message\r\nid: 1\r\ndata: {message}\r\n\r\ndata: {RESULT}\n\n: end")
        };
        for size in [1, 7, 1 << 20] {
            assert_eq!(screened(Unit::Body, ERROR, size), MASKED);
            assert_eq!(
                screened(Unit::Body, &format!("{RESULT}\n"), size),
                format!("{RESULT}\n")
            );
            assert_eq!(screened(Unit::Line, &events(ERROR), size), events(MASKED));
            assert_eq!(screened(Unit::Line, &events(RESULT), size), events(RESULT));
        }
    }

    #[test]
    fn what_is_long_passes_before_its_end() {
        let redactor = Arc::new(Redactor::new(["s3cr3t-canary"]));
        for unit in [Unit::Body, Unit::Line] {
            let mut screen = Screen::new(unit, Arc::clone(&redactor));
            let long = "x".repeat(HELD + 1);
            assert_eq!(screen.push(long.as_bytes()), long.as_bytes());
            assert_eq!(screen.push(b"yz"), b"yz");
        }
        let line = format!("data: {}\n", "x".repeat(2 * HELD));
        let after = format!("{line}data: {ERROR}\n");
        assert_eq!(screened(Unit::Line, &after, 1000), format!("{line}data: {MASKED}\n"));
    }
}
