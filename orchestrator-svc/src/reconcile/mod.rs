//! Makes the running servers match the installations of the registry, and the entries whose installations share one.

#[cfg(test)]
mod tests;

mod cleanup;
mod compose;
mod context;
mod controller;
mod desired;
mod follow;
mod index;
mod lease;
mod reconciler;
mod report;
mod sharing;
mod vend;

pub(crate) use compose::self_hosted;
pub(crate) use context::Context;
pub(crate) use controller::Controller;
pub(crate) use follow::{Follower, KINDS};
pub(crate) use lease::Leases;
