//! The harness of the journeys. It starts the real `chandlery` program on free ports and provides what a user has (a
//! token, a generated client, an MCP client, a browser), and upstreams that record or misbehave.
//!
//! Each journey is one file in `tests/`. `integration-tests/run` installs the tools that it requires and runs it.

pub mod accounts;
pub mod authorization_server;
pub mod browser;
pub mod caller;
pub mod canary;
pub mod chance;
pub mod conformance;
pub mod figures;
pub mod generated;
pub mod hostile_authorization_server;
pub mod issuer;
pub mod keycloak;
pub mod mcp;
pub mod oauth;
pub mod plain_browser;
pub mod postgres;
pub mod process;
pub mod relayed;
pub mod script;
pub mod stack;
pub mod streams;
pub mod tls;
pub mod tools;
pub mod upstream;
pub mod wait;
pub mod walk;

pub use self::{
    caller::Caller,
    mcp::McpClient,
    stack::Stack,
    wait::{eventually, eventually_within},
};

/// Errors of the harness are texts for the person who reads a test's output.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;
