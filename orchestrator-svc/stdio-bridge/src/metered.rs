//! Events at a limited rate.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};

use crate::event::{Event, Events};

/// The delay between two events. It doubles while there are further changes.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Sends an event after each change of what is watched; while there are further ones, at growing intervals. The last change is always sent.
/// Returns when nothing changes it any more.
pub(crate) async fn metered<T: Clone>(mut watched: watch::Receiver<T>, events: Events, event: impl Fn(T) -> Event) {
    while watched.changed().await.is_ok() {
        let mut pause = FIRST_PAUSE;
        loop {
            let value = watched.borrow_and_update().clone();
            events.send(event(value)).await;
            let over = Instant::now() + pause;
            if !matches!(timeout_at(over, watched.changed()).await, Ok(Ok(()))) {
                break;
            }
            sleep_until(over).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
