//! credential-svc stores the secrets that people enter, sealed, and vends them to workloads only.

mod api;
mod app;
mod config;
mod convert;
mod domain;
mod health;
mod oauth;
mod registry;
mod store;

pub use app::{BuildError, Deps, build};
pub use config::{Config, StoreConfig, TransitConfig, VaultConfig, VaultLogin};
pub use store::{
    local::{KEY_FILE, OpenError, rotate_keys},
    vault::{SettingsError, Transit, TransitError},
};
