//! Time as a parameter.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Tells the time of day: the system's, or one that a test moves.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's time.
    #[default]
    System,
    /// Stands still until a test moves it.
    Manual(ManualClock),
}

/// A clock that tests move.
#[derive(Clone, Debug)]
pub struct ManualClock {
    micros: Arc<AtomicU64>,
}

impl Clock {
    /// Now.
    pub fn now(&self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            Self::Manual(clock) => UNIX_EPOCH + Duration::from_micros(clock.micros.load(Ordering::SeqCst)),
        }
    }

    /// Microseconds since 1970, as the databases keep time.
    pub fn now_micros(&self) -> i64 {
        to_micros(self.now())
    }
}

impl ManualClock {
    /// Stands at `time`.
    pub fn at(time: SystemTime) -> Self {
        let micros = u64::try_from(to_micros(time)).unwrap_or_default();
        Self {
            micros: Arc::new(AtomicU64::new(micros)),
        }
    }

    /// Moves forward.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(by, Ordering::SeqCst);
    }
}

/// Microseconds since 1970; 0 for a time before.
pub fn to_micros(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .map(|since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
        .unwrap_or_default()
}

/// The time so many microseconds after 1970; 1970 for a negative number.
pub fn from_micros(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}
