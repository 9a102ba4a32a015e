//! Failures of upstreams as callers get them.

use std::sync::Arc;

use crate::{
    domain::{CallError, Entry, FREE, UpstreamFault},
    upstream::UpstreamError,
};

/// Converts a failure of the upstream server into the caller's error, and logs it.
pub(super) fn upstream_failed(error: UpstreamError, entry: &Entry) -> CallError {
    let fault = match &error {
        UpstreamError::Unreachable(_) | UpstreamError::Away(_) | UpstreamError::NotTaken => UpstreamFault::Unreachable,
        UpstreamError::RuntimeEnded => UpstreamFault::Ended,
        UpstreamError::TooManyRequests | UpstreamError::Full | UpstreamError::ShareUsed => UpstreamFault::Busy,
        UpstreamError::Timeout { .. } => UpstreamFault::Timeout,
        UpstreamError::Unauthorized | UpstreamError::InsufficientScope { .. } => UpstreamFault::Unauthorized,
        UpstreamError::Invalid(_) => UpstreamFault::Invalid,
        UpstreamError::NoRoom { within } => {
            tracing::warn!(entry = %entry.slug, "no memory is free for an answer: large answers wait to be read");
            return CallError::NoRoom { within: *within };
        }
        UpstreamError::Cancelled => return CallError::Cancelled,
        UpstreamError::NotOffered => return CallError::NotOffered,
    };
    tracing::info!(entry = %entry.slug, upstream.fault = fault.name(), error = %error, "a call failed at the upstream");
    let message = error.for_caller(&entry.display_name);
    let again = match &error {
        UpstreamError::Away(away) => Some(away.retry_after()),
        _ => (fault == UpstreamFault::Busy).then_some(FREE),
    };
    CallError::Upstream {
        entry: Arc::clone(&entry.slug),
        fault,
        message,
        again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::testing::Registry;

    /// A server that is full has not failed.
    #[test]
    fn a_server_without_room_for_a_call_is_busy() {
        let snapshot = Registry::default().entry("time", &[]).snapshot();
        let entry = snapshot.entry("e-time").unwrap();
        for (error, expected) in [
            (UpstreamError::TooManyRequests, UpstreamFault::Busy),
            (UpstreamError::Full, UpstreamFault::Busy),
            (UpstreamError::ShareUsed, UpstreamFault::Busy),
            (UpstreamError::NotTaken, UpstreamFault::Unreachable),
            (UpstreamError::RuntimeEnded, UpstreamFault::Ended),
        ] {
            let failed = upstream_failed(error.clone(), entry);
            let CallError::Upstream {
                fault, message, again, ..
            } = failed
            else {
                panic!("{failed:?}")
            };
            assert_eq!(fault, expected, "{error:?}");
            assert_eq!(again, (fault == UpstreamFault::Busy).then_some(FREE), "{error:?}");
            assert!(message.contains("The time"), "{message}");
        }
    }
}
