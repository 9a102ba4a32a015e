//! What results of this revision have besides what servers of older ones put in.

use axum::response::Response;
use bytes::Bytes;

use super::super::rpc::{json_response, result};

/// 200 with a message.
pub(super) fn whole(message: Bytes) -> Response {
    json_response(message)
}

/// The message with a result of the gateway's own, a JSON object with members. `kept`: how long clients may keep it, in milliseconds, where
/// that must be said.
pub(super) fn complete(id: &str, mut object: Vec<u8>, kept: Option<u32>) -> Bytes {
    debug_assert!(object.len() > 2 && object.ends_with(b"}"), "it has members");
    object.pop();
    object.extend_from_slice(b",\"resultType\":\"complete\"");
    if let Some(kept) = kept {
        // What one caller gets is nothing for another.
        object.extend_from_slice(format!(",\"ttlMs\":{kept},\"cacheScope\":\"private\"").as_bytes());
    }
    object.push(b'}');
    result(id, &object)
}
