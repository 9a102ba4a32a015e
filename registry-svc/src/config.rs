//! What the registry is built with.

use std::{path::PathBuf, sync::Arc, time::Duration};

use secrecy::SecretString;
use service_kit::{Clock, egress::EgressPolicy, identity::Verifier};

/// Where the registry keeps its data.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file of this machine, used by this process alone.
    Sqlite(PathBuf),
    /// The URL of a PostgreSQL database, which replicas share.
    Postgres(SecretString),
}

/// Settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the data is.
    pub database: Database,
    /// Which upstream URLs may be saved.
    pub egress: EgressPolicy,
    /// Seals page tokens; all replicas share it.
    pub page_token_key: [u8; 32],
    /// How long an installation that was never ready may wait for somebody to complete it.
    pub pending_expiry: Duration,
}

impl Config {
    /// What [`Config::pending_expiry`] usually is.
    pub const DEFAULT_PENDING_EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);
}

/// What the registry stands on.
#[derive(Clone, Debug)]
pub struct Deps {
    /// Verifies people's tokens.
    pub verifier: Arc<Verifier>,
    /// The time.
    pub clock: Clock,
}
