//! Where secrets are kept.

pub(crate) mod local;
