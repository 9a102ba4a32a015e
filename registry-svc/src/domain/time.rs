//! Times: microseconds since 1970 in the database, timestamps in messages.

use prost_types::Timestamp;
use service_kit::clock;

/// As a message has it.
pub(crate) fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from(clock::from_micros(micros))
}

/// As the database has it.
pub(crate) fn micros(timestamp: &Timestamp) -> i64 {
    timestamp
        .seconds
        .saturating_mul(1_000_000)
        .saturating_add(i64::from(timestamp.nanos) / 1_000)
}
