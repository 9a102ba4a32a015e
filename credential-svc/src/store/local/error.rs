//! Why the store cannot be opened.

use std::io;

use service_kit::keys::KeyFileError;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An operation of the file system failed.
    #[error("{path}: {error}")]
    Io {
        /// The file or folder.
        path: String,
        /// The cause.
        error: io::Error,
    },
    /// Other users could change it.
    #[error("{path} is not safe: {remedy} {path}")]
    Unsafe {
        /// The folder.
        path: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The key file cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// There is a database, and no key for it.
    #[error(
        "{path} is missing, and credentials.db cannot be read without it; restore it from the backup that was taken with credentials.db"
    )]
    KeyMissing {
        /// The key file.
        path: String,
    },
    /// The key belongs to another store.
    #[error("{path} is not the key of the credentials.db beside it; restore both from the same backup")]
    KeyWrong {
        /// The key file.
        path: String,
    },
    /// A newer version wrote the database.
    #[error(
        "credentials.db has schema {found}, and this version knows schemas up to {known}: a newer version of Chandlery wrote it; start that version, or restore a backup"
    )]
    Newer {
        /// The schema of the database.
        found: i64,
        /// The newest schema that this version knows.
        known: i64,
    },
    /// SQLite failed.
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
