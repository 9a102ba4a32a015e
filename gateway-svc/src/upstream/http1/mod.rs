//! Exchanges with upstreams over connections of our own: what is read and written is `service_kit::http1`'s, and a call drives its connection itself,
//! from the first byte of its request to the last of its answer.

mod alarm;
mod body;
mod client;
mod connection;
mod exchange;
mod kept;
mod prepared;
#[cfg(test)]
mod tests;

pub(super) use body::{BodyError, OwnBody};
pub(super) use client::Client;
pub(super) use kept::Limits;
pub(super) use prepared::PreparedPost;
