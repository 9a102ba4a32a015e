//! Starts one MCP server and serves it as streamable HTTP on a Unix socket.
//!
//! One process of a stdio server serves all clients: the bridge multiplexes their JSON-RPC ids and initializes the server once, without client
//! capabilities. Or each MCP session has a process of its own, which is initialized as its client asks and ends with the session; at a server of
//! 2026-07-28, which has no sessions, each caller has one. Requests to a streamable HTTP server are
//! forwarded to its port. In each case, the server gets a clean environment, the parent gets its lines on standard error with the secrets
//! removed, and no process of it outlives the bridge.
//!
//! The bridge is a process ([`main`]): it reads a [`Spec`] as one line of JSON from standard input, writes [`Event`]s as lines of JSON to
//! standard output, and ends with all its descendants when standard input ends.

mod answer;
mod aside;
mod asked;
mod backlog;
mod child;
mod envelope;
mod era;
mod event;
mod failures;
mod files;
#[cfg(test)]
mod fuzz;
mod http;
mod in_flight;
mod lines;
mod live;
mod log;
mod metered;
mod process;
mod proxy;
mod reaper;
mod redact;
mod refusal;
mod run;
mod scan;
mod screen;
mod seats;
mod serve;
mod sessions;
mod spares;
mod spec;
mod stdio;
mod stop;
mod told;
mod tree;

pub use event::{EndReason, Event, StartFailure};
pub use http::NOT_TAKEN_HEADER;
pub use proxy::SECRET_HEADERS;
pub use redact::Redactor;
pub use run::{NAME, VERSION, VERSION_ARGUMENT, main};
pub use sandbox::LAUNCHER;
pub use seats::CALLER_HEADER;
pub use spec::{File, Limits, Spec, Transport};
pub use stop::{STOP, STOP_NOW};
pub use tree::{MARKER, kill_marked};
