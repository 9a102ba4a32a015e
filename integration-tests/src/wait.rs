//! Waits for conditions. A test never sleeps instead.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// The default timeout of a condition. It is long, because a machine with two busy cores is slow.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// The time between two checks of a condition.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `condition` returns a value.
///
/// # Panics
/// If it does not within [`TIMEOUT`].
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, condition: impl FnMut() -> F) -> T {
    eventually_within(TIMEOUT, what, condition).await
}

/// Waits until `condition` returns a value.
///
/// # Panics
/// If it does not within `timeout`.
pub async fn eventually_within<T, F: Future<Output = Option<T>>>(
    timeout: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(start.elapsed() < timeout, "not within {timeout:?}: {what}");
        tokio::time::sleep(INTERVAL).await;
    }
}
