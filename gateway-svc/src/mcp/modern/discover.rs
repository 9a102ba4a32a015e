//! `server/discover`.

use bytes::Bytes;
use serde_json::json;

use super::{
    super::initialize::{capabilities, instructions, server_info},
    envelope::complete,
    headers::SUPPORTED,
};
use crate::{domain::Consumer, upstream::modern_names::TASKS};

/// How long clients may keep it, in milliseconds.
const KEPT: u32 = 60_000;

/// The answer.
pub(super) fn result(id: &str, consumer: &Consumer) -> Bytes {
    let mut offered = capabilities();
    offered["extensions"] = json!({TASKS: {}});
    let result = json!({
        "supportedVersions": SUPPORTED,
        "capabilities": offered,
        "instructions": instructions(consumer),
        "_meta": {"io.modelcontextprotocol/serverInfo": server_info()},
    });
    complete(id, result.to_string().into_bytes(), Some(KEPT))
}
