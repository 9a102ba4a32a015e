//! gateway-svc: the MCP endpoints of gateways and agents, the gRPC `ToolService`, discovery of tools and the install page.
//!
//! A call passes these stations, each a module: `identity` (who calls), `route` (exposed name to assignment), `resolve`
//! (assignment to installation), `vend` (its headers), `upstream` (forward). `snapshot` is what they look things up in;
//! `mcp` and `api` are the two APIs; `discovery` asks servers for their tools; `pages` is the install page.

#[cfg(test)]
mod allocations;
mod api;
mod app;
mod buffers;
mod calls;
mod config;
mod discovery;
mod domain;
mod facade;
mod identity;
mod json;
mod listing;
mod mcp;
mod oidc;
mod pages;
mod resolve;
mod route;
mod seal;
mod search;
mod sentence;
mod snapshot;
mod upstream;
mod vend;

pub use app::{BuildError, Deps, build};
pub use config::Config;
pub use mcp::MAX_BATCH;
pub use upstream::CALLS_OF_A_SESSION;
