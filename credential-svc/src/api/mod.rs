//! The gRPC services: parse, one domain call, convert.

mod people;
mod status;
mod workloads;

pub(crate) use people::People;
pub(crate) use workloads::Workloads;
