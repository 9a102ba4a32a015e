//! Makes what runs match what the registry says should.

mod controller;
mod follow;
mod report;
mod supervisor;
mod vend;

pub(crate) use controller::{Controller, Runtime};
pub(crate) use follow::{Follower, KINDS};
pub(crate) use supervisor::Context;
