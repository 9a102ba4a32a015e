//! Tokens of authorization servers.

pub(crate) mod exchange;
pub(crate) mod plan;
pub(crate) mod servers;
