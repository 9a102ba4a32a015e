//! What to run, and how it stands.

pub(crate) mod logs;
pub(crate) mod plan;
pub(crate) mod status;
