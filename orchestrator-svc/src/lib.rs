//! orchestrator-svc: makes the running MCP servers match the self-hosted installations of the registry.
//!
//! `reconcile` follows the registry and keeps one supervisor an installation whose server runs here. It runs a bridge process
//! (`runtime::local`), starts it again when it ends, and reports how it does. What holds the servers is tried when the service starts. `domain` says what to run and how a server stands;
//! `api` shows it to people.

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
