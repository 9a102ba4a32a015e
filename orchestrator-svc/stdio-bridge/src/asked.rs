//! What a request that passes asks for.

use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};

use crate::{answer::Body, envelope::Members, refusal::describes};

/// A longer request is a call: the others have no parameters but a cursor.
const SHORT: u64 = 64 << 10;

/// The request as it is, and its id (JSON) if its result describes the server. `None`: it broke off.
pub(crate) async fn asked(request: Request<Incoming>) -> Option<(Request<Body>, Option<String>)> {
    let is_short = request.body().size_hint().upper().is_some_and(|length| length <= SHORT);
    if !is_short {
        return Some((request.map(|body| body.map_err(Into::into).boxed_unsync()), None));
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let description = description(&body);
    let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
    Some((Request::from_parts(head, body), description))
}

fn description(message: &[u8]) -> Option<String> {
    let message = Members::parse(message)?;
    let id = message
        .get("id")
        .filter(|_| describes(&message.string("method").unwrap_or_default()))?;
    Some(id.get().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_initialize_describe_the_server() {
        let of = |method: &str| description(format!(r#"{{"jsonrpc":"2.0","id":"a","method":"{method}"}}"#).as_bytes());
        for method in ["initialize", "tools/list", "prompts/list", "resources/templates/list"] {
            assert_eq!(of(method).as_deref(), Some("\"a\""), "{method}");
        }
        for method in ["tools/call", "prompts/get", "resources/read"] {
            assert_eq!(of(method), None, "{method}");
        }
    }
}
