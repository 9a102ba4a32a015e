//! Starts one MCP server and serves it as streamable HTTP on a Unix socket.
//!
//! A stdio server is spoken to for all its clients: their JSON-RPC ids are multiplexed, the server is initialized once, without
//! client capabilities. Or each MCP session has a process of its own, which ends with it. A streamable HTTP server is proxied to its port. Either way the server gets a clean environment, its
//! lines on standard error are handed to the parent with the secrets taken out, and nothing of it outlives the bridge.
//!
//! The bridge is a process of its own ([`main`]): it reads a [`Spec`] as one line of JSON on standard input, writes
//! [`Event`]s as lines of JSON on standard output, and ends with all its descendants when standard input ends.

mod answer;
mod backlog;
mod child;
mod envelope;
mod event;
mod files;
#[cfg(test)]
mod fuzz;
mod http;
mod lines;
mod log;
mod process;
mod proxy;
mod reaper;
mod redact;
mod run;
mod scan;
mod serve;
mod sessions;
mod spares;
mod spec;
mod stdio;
mod stop;
mod tree;
mod underway;

pub use event::{EndReason, Event};
pub use http::NOT_TAKEN_HEADER;
pub use redact::Redactor;
pub use run::main;
pub use sandbox::LAUNCHER;
pub use spec::{File, Limits, Spec, Transport};
pub use stop::{STOP, STOP_NOW};
pub use tree::{MARKER, kill_marked};
