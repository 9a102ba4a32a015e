//! Tokens of authorization servers.

pub(crate) mod plan;
pub(crate) mod servers;
