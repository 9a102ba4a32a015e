//! What to run, and how it stands.

pub(crate) mod desired;
pub(crate) mod logs;
pub(crate) mod package;
pub(crate) mod plan;
pub(crate) mod status;
