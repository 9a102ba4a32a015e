//! How the other services follow registry-svc and ask it: one watch loop and one authorization call for all of them.

pub mod access;
#[cfg(feature = "testing")]
pub mod testing;
pub mod watch;
