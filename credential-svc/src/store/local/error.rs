//! What keeps the store from being opened.

use std::io;

use service_kit::keys::KeyFileError;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system refuses.
    #[error("{path}: {error}")]
    Io {
        /// Of what.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// Others could read or change it.
    #[error("{path} is not safe: {remedy} {path}")]
    Unsafe {
        /// Of what.
        path: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The file of the key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// There is data, and no key for it.
    #[error(
        "{path} is missing, and credentials.db cannot be read without it; restore it from the backup that was taken with credentials.db"
    )]
    KeyMissing {
        /// Of the key.
        path: String,
    },
    /// The key is of another store.
    #[error("{path} is not the key of credentials.db beside it; restore the two from the same backup")]
    KeyWrong {
        /// Of the key.
        path: String,
    },
    /// A newer program wrote it.
    #[error(
        "credentials.db has version {found}, and this program knows up to {known}: it was written by a newer Chandlery"
    )]
    Newer {
        /// Of the file.
        found: i64,
        /// Of the program.
        known: i64,
    },
    /// SQLite refuses.
    #[error("credentials.db: {0}")]
    Database(#[from] sqlx::Error),
}

impl OpenError {
    pub(super) fn io(path: &str, error: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            error,
        }
    }
}
