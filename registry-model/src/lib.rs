//! Rules about the messages of registry-svc that several services must apply in the same way.
//!
//! `destination` determines where a secret may be sent, `headers` which header names are reserved, `install_fields`
//! what an install field means, `credential_models` what the credential models have in common, `tenancy` whether
//! installations share a server, and `cases` whether this version understands an entry revision. The functions take messages and return decisions; they do no I/O and know no
//! gRPC.

pub mod cases;
pub mod credential_models;
pub mod destination;
pub mod headers;
pub mod install_fields;
pub mod tenancy;
