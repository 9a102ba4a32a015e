//! orchestrator-svc: makes the running MCP servers match the self-hosted installations of the registry.
//!
//! `reconcile` watches the registry, decides what should run for each installation, applies that to the runtime, and reports the runtime's
//! status. `domain` has the types that both use and the port `domain::runtime::Runtime`; `runtime` has its implementations. `api` shows
//! servers to people.

mod api;
mod app;
mod config;
mod domain;
mod reconcile;
mod runtime;

pub use app::{BuildError, Deps, build};
pub use config::{Backoff, Config, Sandbox, SandboxMode};
pub use runtime::local::{LocalError, SandboxError};
pub use sandbox::Resources;
pub use stdio_bridge::Limits;
