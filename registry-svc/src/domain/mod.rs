//! The registry's rules. Knows no transport and no database.

pub(crate) mod assignment;
pub(crate) mod consumer;
pub(crate) mod entry;
pub(crate) mod field_mask;
pub(crate) mod installation;
pub(crate) mod text;
pub(crate) mod visibility;
