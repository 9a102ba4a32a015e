//! Errors as clients of this revision get them.

use axum::response::Response;
use http::StatusCode;

use super::{
    super::{
        failure::{self, Failure, RESOURCE_NOT_FOUND},
        rpc::{INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, RpcError},
    },
    envelope::{complete, whole},
};
use crate::domain::CallError;

/// The errors that this revision has defined, all of requests that are not as it requires.
const DEFINED: std::ops::RangeInclusive<i64> = -32099..=-32020;

/// The status of a response with an error of this code.
pub(super) fn status(code: i64) -> StatusCode {
    match code {
        METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        code if DEFINED.contains(&code) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

/// The response to a request that is not one of this revision.
pub(super) fn refuse(error: &RpcError, id: &str) -> Response {
    let status = match error.code {
        METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_REQUEST,
    };
    error.respond(status, Some(id))
}

/// The response to a request that fails.
pub(super) fn respond(error: &RpcError, id: &str) -> Response {
    error.respond(status(error.code), Some(id))
}

/// The response to a request of a list that fails.
pub(super) fn answer(error: &CallError, id: &str) -> Response {
    match of(error, false, || false) {
        Failure::Error(error) => respond(&error, id),
        Failure::Result(result) => whole(complete(id, result.into_bytes(), None)),
    }
}

/// What a client gets; see [`failure::of`].
pub(super) fn of(error: &CallError, of_tool: bool, declares_output: impl FnOnce() -> bool) -> Failure {
    match failure::of(error, of_tool, declares_output) {
        Some(Failure::Error(error)) => Failure::Error(known(error)),
        Some(result) => result,
        None => Failure::Error(RpcError::new(INTERNAL_ERROR, error.to_string())),
    }
}

/// An error under the code that it has in this revision.
pub(super) fn known(error: RpcError) -> RpcError {
    match error.code {
        RESOURCE_NOT_FOUND => RpcError {
            code: INVALID_PARAMS,
            ..error
        },
        _ => error,
    }
}
