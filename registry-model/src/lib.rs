//! Rules about the registry's messages that several services apply, each to its own copy and all with the same result.
//!
//! `destination`: where a secret may go. `headers`: which header names are Chandlery's. `install_fields`: which values are secrets, who
//! provides them and where they go. `cases`: whether this version knows everything that an entry revision says. No I/O and no gRPC:
//! messages in, decisions out.

pub mod cases;
pub mod destination;
pub mod headers;
pub mod install_fields;
