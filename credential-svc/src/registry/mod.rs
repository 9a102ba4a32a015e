//! registry-svc, as this service follows it and reports to it.

pub(crate) mod follow;
pub(crate) mod report;
