//! The gRPC contracts of Chandlery's four services, one module a service.
//!
//! The documentation of every message stands in `proto/chandlery/*/v1/*.proto`, which is what generated clients see.

#![allow(
    missing_docs,
    clippy::doc_markdown,
    clippy::large_enum_variant,
    reason = "generated code"
)]

pub mod codec;
mod redacted;

/// registry-svc: entries, installations, gateways, agents, teams.
pub mod registry {
    tonic::include_proto!("chandlery.registry.v1");
    /// What reflection serves.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/registry.descriptors"));
}

/// credential-svc: secrets in by people, out to workloads.
pub mod credential {
    tonic::include_proto!("chandlery.credential.v1");
    /// What reflection serves.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/credential.descriptors"));
}

/// orchestrator-svc: running servers.
pub mod orchestrator {
    tonic::include_proto!("chandlery.orchestrator.v1");
    /// What reflection serves.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/orchestrator.descriptors"));
}

/// gateway-svc: tools, by gRPC.
pub mod gateway {
    tonic::include_proto!("chandlery.gateway.v1");
    /// What reflection serves.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/gateway.descriptors"));
}
