//! Tokens of authorization servers.

pub(super) mod access;
pub(crate) mod asked;
mod asking;
pub(crate) mod attempts;
mod authority;
pub(crate) mod client;
pub(super) mod context;
pub(crate) mod exchange;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod finishing;
mod flights;
pub(crate) mod grant;
mod keeping;
pub(crate) mod pending;
pub(super) mod per_caller;
pub(crate) mod plan;
pub(crate) mod registered;
mod registering;
pub(crate) mod renewing;
mod requests;
pub(in crate::domain) mod revoker;
mod revoking;
pub(crate) mod scopes;
pub(crate) mod servers;
pub(crate) mod starting;
