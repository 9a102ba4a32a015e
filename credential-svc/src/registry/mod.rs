//! Watches registry-svc and reports to it.

pub(crate) mod follow;
pub(crate) mod report;
