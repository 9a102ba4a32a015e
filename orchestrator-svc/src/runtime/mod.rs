//! The implementations of [`crate::domain::runtime::Runtime`].

pub(crate) mod local;
#[cfg(test)]
pub(crate) mod memory;
mod observations;
#[cfg(test)]
mod suite;
