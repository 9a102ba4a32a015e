//! Protects a listener from hostile and slow clients: an unauthenticated client costs little.
//!
//! This module limits the number of connections ([`Gate`]), how long a client may stall ([`Guarded`]), how slowly it
//! may send the body of a request ([`request_body`]), and how slowly it may read a response ([`response_body`]). HTTP
//! and gRPC listeners share it. A request that arrives at once, and whose response is read at once, sets no timer and
//! takes no lock.
//!
//! A full listener still accepts: a new connection replaces the one that has been quiet for longest. Only if all
//! connections have requests in progress is a new one refused, and a few places remain for health checks.

mod accept;
mod body;
mod gate;
mod guarded;
mod keep_open;
mod limits;
mod phase;
#[cfg(test)]
mod tests;

pub use accept::{Acceptor, connections};
pub use body::{Served, TooSlow, is_too_slow, request_body, response_body};
pub(crate) use gate::network;
pub use gate::{Gate, Permit};
pub use guarded::Guarded;
pub use keep_open::KeepOpen;
pub use limits::Limits;
pub use phase::Phase;
