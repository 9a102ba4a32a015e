//! Calls that wait while their clients answer what the server asks. Each replica knows its own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, task::AbortHandle, time::sleep};
use tokio_util::sync::CancellationToken;

/// How long a call waits.
const PATIENCE: Duration = Duration::from_secs(600);
/// How many wait, of one caller and in all.
const MOST_EACH: usize = 32;
const MOST: usize = 2048;

/// Where a call waits.
pub(in crate::mcp) type Place = [u8; 16];

/// Calls that wait.
#[derive(Debug)]
pub(in crate::mcp) struct Parking<T> {
    places: Mutex<Places<T>>,
    /// Ends all waits: after a restart, nobody finds what has waited.
    stop: CancellationToken,
}

#[derive(Debug)]
struct Places<T> {
    taken: HashMap<Place, Waiting<T>>,
    /// How many each caller has.
    by_subject: HashMap<Arc<str>, usize>,
}

#[derive(Debug)]
struct Waiting<T> {
    subject: Arc<str>,
    what: T,
    _timer: Timer,
}

/// Ends the wait, unless this is dropped.
#[derive(Debug)]
struct Timer(AbortHandle);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T> Parking<T> {
    /// Nothing waits once `stop` is cancelled.
    pub(in crate::mcp) fn new(stop: CancellationToken) -> Self {
        let places = Mutex::new(Places {
            taken: HashMap::new(),
            by_subject: HashMap::new(),
        });
        Self { places, stop }
    }
}

impl<T: Send + 'static> Parking<T> {
    /// Keeps it for this caller until it is taken or the wait is over. Returns it if there is no place.
    pub(super) fn park(self: &Arc<Self>, subject: &Arc<str>, what: T, runtime: &Handle) -> Result<Place, T> {
        let place: Place = service_kit::random::bytes();
        let mut places = self.places();
        let own = places.by_subject.get(subject).copied().unwrap_or_default();
        if own >= MOST_EACH || places.taken.len() >= MOST || self.stop.is_cancelled() {
            return Err(what);
        }
        let (parking, stop) = (Arc::downgrade(self), self.stop.clone());
        let timer = runtime.spawn(async move {
            stop.run_until_cancelled(sleep(PATIENCE)).await;
            if let Some(parking) = parking.upgrade() {
                drop(parking.take(&place));
            }
        });
        let waiting = Waiting {
            subject: Arc::clone(subject),
            what,
            _timer: Timer(timer.abort_handle()),
        };
        places.by_subject.insert(Arc::clone(subject), own + 1);
        places.taken.insert(place, waiting);
        Ok(place)
    }

    /// Takes it, once.
    pub(super) fn take(&self, place: &Place) -> Option<T> {
        let mut places = self.places();
        let Waiting { subject, what, .. } = places.taken.remove(place)?;
        if let Some(own) = places.by_subject.get_mut(&subject) {
            *own -= 1;
            if *own == 0 {
                places.by_subject.remove(&subject);
            }
        }
        Some(what)
    }

    fn places(&self) -> MutexGuard<'_, Places<T>> {
        // Nothing panics between two changes that belong together.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_waits_for_ever() {
        let (parking, runtime) = (Arc::new(Parking::new(CancellationToken::new())), Handle::current());
        let (subject, call) = (Arc::from("users/a"), Arc::new(()));
        let place = parking.park(&subject, Arc::clone(&call), &runtime).unwrap();
        let kept = parking.park(&subject, Arc::clone(&call), &runtime).unwrap();
        assert!(parking.take(&kept).is_some() && parking.take(&kept).is_none());
        sleep(PATIENCE + Duration::from_secs(1)).await;
        assert!(parking.take(&place).is_none());
        assert_eq!(Arc::strong_count(&call), 1);
        assert!(parking.places().by_subject.is_empty());
    }

    #[tokio::test]
    async fn one_caller_does_not_take_all_places() {
        let (parking, runtime) = (Arc::new(Parking::new(CancellationToken::new())), Handle::current());
        let [one, other] = ["users/a", "users/b"].map(Arc::from);
        let places: Vec<_> = (0..MOST_EACH)
            .map(|n| parking.park(&one, n, &runtime).unwrap())
            .collect();
        assert_eq!(parking.park(&one, 100, &runtime), Err(100));
        assert!(parking.park(&other, 101, &runtime).is_ok());
        assert_eq!(parking.take(&places[3]), Some(3));
        assert!(parking.park(&one, 102, &runtime).is_ok());
    }
}
