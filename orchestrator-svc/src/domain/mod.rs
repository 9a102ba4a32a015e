//! What should run, how it does, and the port for what runs it. No registry, no process, no cluster.

pub(crate) mod logs;
pub(crate) mod package;
pub(crate) mod protection;
pub(crate) mod runtime;
pub(crate) mod spec;
pub(crate) mod status;
