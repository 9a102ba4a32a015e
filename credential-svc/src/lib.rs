//! credential-svc stores the secrets that people enter, sealed, and vends them to workloads only.

mod api;
mod app;
mod convert;
mod domain;
mod health;
mod registry;
mod store;

pub use app::{BuildError, Config, Deps, build};
pub use store::local::{KEY_FILE, OpenError, rotate_keys};
