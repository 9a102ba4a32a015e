//! The end of what a request may take: one timer for all requests of a connection.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that lasts as long as its connection. Most requests end long before their time, and to make a timer for each, and remove it again, takes a lock
/// twice. One that is moved to a later moment takes none.
#[derive(Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Whether this moment has come; the task is woken when it does. Must be polled behind the connection: a timer panics whose runtime has ended, and
    /// a connection fails.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Polls it as a request does that is answered before.
    async fn is_pending(alarm: &mut Alarm, deadline: Instant) -> bool {
        poll_fn(|cx| Poll::Ready(alarm.poll(cx, deadline).is_pending())).await
    }

    /// On another task than those before. Nothing else wakes it.
    async fn rings_at(mut alarm: Alarm, deadline: Instant) -> Alarm {
        let waiting = tokio::spawn(async move {
            poll_fn(|cx| alarm.poll(cx, deadline)).await;
            alarm
        });
        let alarm = waiting.await.unwrap();
        let late = Instant::now().duration_since(deadline);
        assert!(
            Instant::now() >= deadline && late < Duration::from_millis(10),
            "{late:?}"
        );
        alarm
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_is_woken_at_its_deadline_whatever_the_one_before_was() {
        let now = Instant::now();
        let mut alarm = rings_at(Alarm::default(), now + SECOND).await;
        for earlier in [0, 1, 5, 20] {
            let now = Instant::now();
            assert!(is_pending(&mut alarm, now + earlier * SECOND + SECOND / 2).await);
            alarm = rings_at(alarm, now + 5 * SECOND).await;
        }
    }

    /// Its wake-up went to a task that waits for it no longer.
    #[tokio::test(start_paused = true)]
    async fn a_timer_that_has_expired_between_two_requests_is_set_again() {
        let mut alarm = Alarm::default();
        assert!(is_pending(&mut alarm, Instant::now() + SECOND).await);
        advance(2 * SECOND).await;
        rings_at(alarm, Instant::now() + SECOND).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_has_passed_is_told_at_once() {
        let mut alarm = Alarm::default();
        let now = Instant::now();
        assert!(is_pending(&mut alarm, now + 5 * SECOND).await);
        advance(SECOND).await;
        assert!(!is_pending(&mut alarm, now).await);
    }
}
