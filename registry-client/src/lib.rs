//! The client of registry-svc that the other services share: the watch loop and authorization calls.

pub mod access;
#[cfg(feature = "testing")]
pub mod testing;
pub mod watch;
