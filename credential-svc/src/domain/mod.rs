//! What a credential is, who may get which part of it, and when. Knows no transport and no database.

pub(crate) mod authorization;
pub(crate) mod changing;
pub(crate) mod condition;
pub(crate) mod credentials;
pub(crate) mod destination;
pub(crate) mod error;
pub(crate) mod injection;
mod locks;
pub(crate) mod owner;
pub(crate) mod plan;
pub(crate) mod ports;
pub(crate) mod queue;
pub(crate) mod readiness;
pub(crate) mod reconcile;
pub(crate) mod record;
pub(crate) mod records;
pub(crate) mod rendering;
pub(crate) mod replay;
pub(crate) mod reporting;
mod state;
pub(crate) mod summary;
pub(crate) mod sweep;
pub(crate) mod validate;
pub(crate) mod vending;
pub(crate) mod views;
