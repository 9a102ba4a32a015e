//! The forwarder: calls MCP servers over streamable HTTP, with pooled connections and a session for each installation.
//!
//! An upstream affects no calls but its own: time, memory and concurrency are bounded for each, redirects are not followed, and
//! answers are validated before they are passed on.

mod answer;
mod asking;
mod body;
mod by_client;
mod challenge;
mod circuit;
mod client;
mod connect;
mod door;
mod eras;
mod error;
mod exchange;
#[cfg(test)]
mod fuzz;
mod heard;
mod http1;
mod in_use;
mod initialize;
mod knock;
mod left_out;
mod limits;
mod mark;
mod message;
mod messages;
mod modern;
mod open_session;
mod own_sessions;
mod pending;
mod pool;
mod pool_error;
mod post;
mod progress;
mod progress_tokens;
mod reading;
mod response;
mod room;
mod session;
mod shared_sessions;
mod sse;
mod standing;
mod stream_begun;
mod subscribed;
mod subscribing;
mod target;
mod tools;
mod unsubscribing;
mod upstreams;

pub(crate) use answer::Event;
pub(crate) use asking::Asking;
pub(crate) use client::{Client, Era, Profile};
pub(crate) use error::{Away, UpstreamError};
pub(crate) use heard::{Heard, Updated, is_part_of};
pub use limits::CALLS_OF_A_SESSION;
pub(crate) use limits::Limits;
pub(crate) use message::{List, Outgoing, Params, RELATED_TASK, Reply, digits};
pub(crate) use messages::{Answer, Messages};
pub(crate) use modern::{header::text as header_text, mirrored::Mirrored, names as modern_names};
pub(crate) use open_session::OpenSession;
pub(crate) use pool::Pool;
pub(crate) use progress::ProgressToken;
pub(crate) use room::Together;
pub(crate) use shared_sessions::SharedTopics;
pub(crate) use sse::{EVENT, EVENT_ENDS, in_one_line, push_event};
pub(crate) use stream_begun::StreamBegun;
pub(crate) use subscribed::{
    CALLER_HAS_ENOUGH, LONGEST_URI, MOST_SUBSCRIBED, TOO_MANY_SUBSCRIBED, URI_TOO_LONG, bytes as bytes_subscribed,
};
pub(crate) use target::{Endpoint, Place, Revision, Scope, SessionKey, Target, Whose};
pub(crate) use tools::{ListedTool, ToolList};
pub(crate) use unsubscribing::Unheard;
pub(crate) use upstreams::Upstreams;

#[cfg(test)]
mod tests;
