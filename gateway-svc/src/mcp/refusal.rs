//! Answers to HTTP requests that are not served.

use axum::response::Response;
use http::{
    HeaderValue, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};
use service_kit::quota::Exceeded;

use super::{
    Mcp,
    rpc::{INTERNAL_ERROR, RpcError, TRANSPORT_ERROR},
};
use crate::{
    domain::{CallError, ConsumerRef},
    identity::Refusal,
};

/// `Retry-After`, in seconds.
pub(super) const IN_A_SECOND: HeaderValue = HeaderValue::from_static("1");

pub(super) fn plain(status: StatusCode, code: i64, message: &str) -> Response {
    RpcError::new(code, message).respond(status, None)
}

/// A quota is used up (RFC 6585, section 4); `id` is that of the request.
pub(super) fn too_many(exceeded: &Exceeded, id: Option<&str>) -> Response {
    let (status, why) = (StatusCode::TOO_MANY_REQUESTS, exceeded.to_string());
    later(status, &why, id, exceeded.retry_after())
}

/// A refusal that says when to retry.
pub(super) fn later(status: StatusCode, why: &str, id: Option<&str>, retry_after: HeaderValue) -> Response {
    let mut response = RpcError::new(TRANSPORT_ERROR, why).respond(status, id);
    response.headers_mut().insert(RETRY_AFTER, retry_after);
    response
}

pub(super) fn refused(mcp: &Mcp, name: &ConsumerRef, refusal: &Refusal) -> Response {
    let message = refusal.to_string();
    let status = match refusal {
        Refusal::Anonymous | Refusal::Token(_) | Refusal::Deactivated => StatusCode::UNAUTHORIZED,
        Refusal::Scope(_) => StatusCode::FORBIDDEN,
        Refusal::IssuerUnreachable => return plain(StatusCode::SERVICE_UNAVAILABLE, INTERNAL_ERROR, &message),
        Refusal::Unavailable(error) => return unavailable(error),
    };
    let mut response = plain(status, TRANSPORT_ERROR, &message);
    response
        .headers_mut()
        .insert(WWW_AUTHENTICATE, mcp.metadata.challenge(name, refusal));
    response
}

pub(super) fn unavailable(error: &CallError) -> Response {
    let status = match error {
        CallError::ConsumerNotFound(_) => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    plain(status, TRANSPORT_ERROR, &error.to_string())
}
