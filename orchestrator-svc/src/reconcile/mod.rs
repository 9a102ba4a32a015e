//! Makes what runs match what the registry says should.

mod cleanup;
mod controller;
mod fetching;
mod follow;
mod index;
mod report;
mod supervisor;
mod vend;

pub(crate) use controller::{Controller, Runtime};
pub(crate) use follow::{Follower, KINDS};
pub(crate) use supervisor::Context;
