//! What fails in the database. Other layers pass it on without knowing which engine it was.

use super::document::SchemaNewer;
use crate::domain::{self, StorageError};

pub(crate) use sqlx::{Error, Result};

/// The error of something that the database was asked and has not done in time.
pub(crate) const fn timed_out() -> Error {
    Error::PoolTimedOut
}

impl From<Error> for domain::Error {
    fn from(error: Error) -> Self {
        Self::Storage(match error {
            Error::Decode(cause) if cause.is::<SchemaNewer>() => StorageError::SchemaNewer(cause),
            error if is_unavailable(&error) => StorageError::Unavailable(error.into()),
            error => StorageError::Failed(error.into()),
        })
    }
}

/// Whether the same call may work in a moment.
fn is_unavailable(error: &Error) -> bool {
    match error {
        Error::Io(_)
        | Error::Tls(_)
        | Error::Protocol(_)
        | Error::PoolTimedOut
        | Error::PoolClosed
        | Error::WorkerCrashed => true,
        // PostgreSQL: connection failures, resources, shutdown, time limits, serialization. SQLite: busy, locked, full, I/O.
        Error::Database(error) => error.code().is_some_and(|code| {
            ["08", "53", "57P", "57014", "55P03", "25P03", "40"]
                .iter()
                .any(|class| code.len() == 5 && code.starts_with(class))
                || code
                    .parse::<u32>()
                    .is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13) && code < 10_000)
        }),
        _ => false,
    }
}
