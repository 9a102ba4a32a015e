//! The configuration of the service.

use std::path::PathBuf;

/// Configuration of the service.
#[derive(Clone, Debug)]
pub struct Config {
    /// Holds `credentials.db` and `credential.key`, which must be backed up together. Created if it does not exist.
    pub data_dir: PathBuf,
    /// Identifies this replica to the registry: a pod's name, for example. `None` for a random name.
    pub instance: Option<String>,
}
