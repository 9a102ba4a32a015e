//! credential-svc: takes secrets from the people they belong to, keeps them sealed, and hands them to workloads alone.

mod api;
mod app;
mod convert;
mod domain;
mod health;
mod registry;
mod store;

pub use app::{BuildError, Config, Deps, build};
pub use store::local::{KEY_FILE, OpenError, rotate_keys};
