//! Where servers run.

pub(crate) mod local;
