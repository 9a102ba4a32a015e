//! The configuration of the service.

use std::path::PathBuf;

use service_kit::egress::EgressPolicy;
use url::Url;

/// Configuration of the service.
#[derive(Clone, Debug)]
pub struct Config {
    /// Holds `credentials.db` and `credential.key`, which must be backed up together. Created if it does not exist.
    pub data_dir: PathBuf,
    /// Identifies this replica to the registry: a pod's name, for example. `None` for a random name.
    pub instance: Option<String>,
    /// Where browsers reach gateway-svc, which receives people when they have signed in at an authorization server. `None`: nobody can
    /// connect an account.
    pub public_url: Option<Url>,
    /// Which authorization servers are reached.
    pub egress: EgressPolicy,
}
