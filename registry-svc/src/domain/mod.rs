//! The registry's rules. Knows no transport and no database.

mod actor;
pub(crate) mod assignment;
pub(crate) mod caller;
pub(crate) mod conditions;
pub(crate) mod consumer;
pub(crate) mod entry;
mod error;
pub(crate) mod etag;
pub(crate) mod field_mask;
pub(crate) mod installation;
pub(crate) mod label_revisions;
mod room;
pub(crate) mod since_revisions;
pub(crate) mod text;
pub(crate) mod time;
mod uid;
pub(crate) mod visibility;

pub(crate) use actor::Actor;
pub(crate) use caller::Caller;
pub(crate) use error::{Error, StorageError};
pub(crate) use room::Room;
pub(crate) use uid::new_uid;
