//! What stands between strangers and a listener: before anybody is known, little is spent.
//!
//! How many connections there are ([`Gate`]), how long a client may let one wait ([`Guarded`]), how slowly the body of a request may come
//! ([`request_body`]), and how slowly an answer may be taken ([`response_body`]). The same for HTTP and gRPC. No timer runs and no lock is
//! taken for a request that comes at once, and whose answer is taken at once.
//!
//! A full listener is not a deaf one: whoever comes takes the place of the connection that has been quiet longest. Only where all
//! have requests under way is somebody refused, and a few places are left then for questions of health.

mod accept;
mod body;
mod gate;
mod guarded;
mod limits;
mod phase;
#[cfg(test)]
mod tests;

pub use accept::{Acceptor, connections};
pub use body::{Served, TooSlow, is_too_slow, request_body, response_body};
pub(crate) use gate::network;
pub use gate::{Gate, Place};
pub use guarded::Guarded;
pub use limits::Limits;
pub use phase::Phase;
