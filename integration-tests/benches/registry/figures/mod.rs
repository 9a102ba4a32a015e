//! The figures, one module for each.

pub(crate) mod gateway;
pub(crate) mod labels;
pub(crate) mod lists;
pub(crate) mod program;
pub(crate) mod rollout;
pub(crate) mod watchers;
pub(crate) mod writes;
