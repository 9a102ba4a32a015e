//! registry-svc: entries, installations, gateways, agents, teams: desired state, and the status that workloads report.
//!
//! It calls no other service; the others watch it.

mod api;
mod app;
mod config;
mod domain;
mod operate;
mod store;

pub use app::{BuildError, build};
pub use config::{Config, Database, Deps, Retention};
pub use store::{Claim, OpenError, SCHEMA_VERSION};
