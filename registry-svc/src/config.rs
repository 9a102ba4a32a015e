//! What the registry is built with.

use std::{path::PathBuf, sync::Arc, time::Duration};

use secrecy::SecretString;
use service_kit::{Clock, Quotas, egress::EgressPolicy, identity::Verifier, keys::Ring};

/// Where the registry keeps its data.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file of this machine, used by this process alone.
    Sqlite(PathBuf),
    /// The URL of a PostgreSQL database, which replicas share.
    Postgres(SecretString),
}

/// Settings. [`Config::new`] sets all that have a default, so that a new setting breaks no caller:
/// `Config { egress, ..Config::new(database, page_token_key) }`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the data is.
    pub database: Database,
    /// Which upstream URLs may be saved.
    pub egress: EgressPolicy,
    /// Seals page tokens; all replicas share it.
    pub page_token_key: Ring,
    /// How long an installation that was never ready may wait for somebody to complete it.
    pub pending_expiry: Duration,
    /// What watchers can resume from.
    pub retention: Retention,
    /// How long a watcher counts whose connection broke, unless it comes back. The contract says 30 seconds.
    pub watcher_lease: Duration,
}

impl Config {
    /// What [`Config::pending_expiry`] usually is.
    pub const DEFAULT_PENDING_EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);
    /// What [`Config::watcher_lease`] usually is.
    pub const DEFAULT_WATCHER_LEASE: Duration = Duration::from_secs(30);

    /// The usual settings.
    pub fn new(database: Database, page_token_key: impl Into<Ring>) -> Self {
        Self {
            database,
            egress: EgressPolicy::default(),
            page_token_key: page_token_key.into(),
            pending_expiry: Self::DEFAULT_PENDING_EXPIRY,
            retention: Retention::default(),
            watcher_lease: Self::DEFAULT_WATCHER_LEASE,
        }
    }
}

/// How much of the change log is kept. What exceeds any of these is deleted; a watcher that was away for longer needs a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Revisions.
    pub revisions: i64,
    /// Age of a change.
    pub age: Duration,
    /// Bytes of all changes.
    pub bytes: i64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            revisions: 100_000,
            age: Duration::from_secs(24 * 60 * 60),
            bytes: 256 << 20,
        }
    }
}

/// What the registry stands on.
#[derive(Clone, Debug)]
pub struct Deps {
    /// Verifies people's tokens.
    pub verifier: Arc<Verifier>,
    /// Counts what callers do.
    pub quotas: Arc<Quotas>,
    /// The time.
    pub clock: Clock,
}
