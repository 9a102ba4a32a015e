//! The clock that services are given, so that tests can control the time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Tells the time of day: the system's time, or a time that a test sets.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's time.
    #[default]
    System,
    /// The time stands still until a test advances it.
    Manual(ManualClock),
}

/// A clock that tests set and advance.
#[derive(Clone, Debug)]
pub struct ManualClock {
    micros: Arc<AtomicU64>,
}

impl Clock {
    /// The current time.
    pub fn now(&self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            Self::Manual(clock) => UNIX_EPOCH + Duration::from_micros(clock.micros.load(Ordering::SeqCst)),
        }
    }

    /// Microseconds since 1970, the unit in which the databases store time.
    pub fn now_micros(&self) -> i64 {
        to_micros(self.now())
    }
}

impl ManualClock {
    /// A clock that stands at `time`.
    pub fn at(time: SystemTime) -> Self {
        let micros = u64::try_from(to_micros(time)).unwrap_or_default();
        Self {
            micros: Arc::new(AtomicU64::new(micros)),
        }
    }

    /// Advances the time.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(by, Ordering::SeqCst);
    }
}

/// Microseconds since 1970; 0 for an earlier time.
pub fn to_micros(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .map(|since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
        .unwrap_or_default()
}

/// The time this many microseconds after 1970; 1970 for a negative number.
pub fn from_micros(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}
