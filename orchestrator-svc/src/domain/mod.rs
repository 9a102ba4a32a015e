//! Specs and statuses of servers, and the port for runtimes. Knows no registry, processes or clusters.

pub(crate) mod logs;
pub(crate) mod package;
pub(crate) mod protection;
pub(crate) mod restarts;
pub(crate) mod runtime;
pub(crate) mod spec;
pub(crate) mod status;
