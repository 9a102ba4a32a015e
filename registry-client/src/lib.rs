//! How the other services follow registry-svc and ask it: one watch loop, one authorization call, one notion of a
//! credential's destination for all of them.

pub mod access;
pub mod cases;
pub mod destination;
pub mod headers;
pub mod watch;
