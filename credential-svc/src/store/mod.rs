//! Where secrets are kept.

mod encoding;
pub(crate) mod local;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod suite;
pub(crate) mod vault;
