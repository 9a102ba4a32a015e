//! How long is waited before a server's stream is opened again, and how often its session is used meanwhile.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// At first, and at most.
const FIRST: Duration = Duration::from_secs(1);
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// A stream that has stood for so long is opened again without a longer pause than the first.
pub(super) const STOOD: Duration = Duration::from_secs(5);

/// How often a session is kept from being forgotten as idle.
pub(super) const TOUCHED: Duration = Duration::from_secs(600);

pub(super) fn delays() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(FIRST)
        .with_max_delay(LONGEST)
        .without_max_times()
        // A server that was started again is not met by all at once.
        .with_jitter()
        .build()
}
