//! Failures of upstreams as callers get them.

use std::sync::Arc;

use crate::{
    domain::{CallError, Entry, UpstreamFault},
    upstream::UpstreamError,
};

/// Converts a failure of the upstream server into the caller's error, and logs it.
pub(super) fn upstream_failed(error: UpstreamError, entry: &Entry) -> CallError {
    let fault = match &error {
        UpstreamError::Unreachable(_)
        | UpstreamError::NotTaken
        | UpstreamError::Full
        | UpstreamError::ShareUsed
        | UpstreamError::RuntimeEnded => UpstreamFault::Unreachable,
        UpstreamError::Timeout { .. } => UpstreamFault::Timeout,
        UpstreamError::Unauthorized | UpstreamError::InsufficientScope { .. } => UpstreamFault::Unauthorized,
        UpstreamError::Invalid(_) => UpstreamFault::Invalid,
        UpstreamError::NoRoom { within } => {
            tracing::warn!(entry = %entry.slug, "no memory is free for an answer: large answers wait to be read");
            return CallError::NoRoom { within: *within };
        }
        UpstreamError::Cancelled => return CallError::Cancelled,
    };
    tracing::info!(entry = %entry.slug, upstream.fault = fault.name(), error = %error, "a call failed at the upstream");
    let message = error.for_caller(&entry.display_name);
    CallError::Upstream {
        entry: Arc::clone(&entry.slug),
        fault,
        message,
    }
}
