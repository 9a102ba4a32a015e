//! What two or more of Chandlery's services require in order to be served: caller identity, connections, quotas,
//! errors, health and reflection. This crate knows no domain noun.

pub mod app;
pub mod boxed;
pub mod cancel;
pub mod clock;
pub mod connection;
pub mod edge;
pub mod egress;
#[cfg(feature = "testing")]
pub mod fuzz;
pub mod hosts;
pub mod http1;
pub mod identity;
pub mod json_answer;
pub mod keys;
#[cfg(feature = "testing")]
pub mod not_run;
pub mod page_token;
pub mod peer;
pub mod per_caller;
pub mod pipe;
pub mod quota;
pub mod random;
pub mod receive;
pub mod roots;
pub mod send;
pub mod serve;
pub mod status;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod turns;

pub use app::{App, Readiness, Task};
pub use clock::Clock;
pub use hosts::Hosts;
pub use identity::{Caller, User, UserId};
pub use peer::{Peer, Workload};
pub use quota::Quotas;
