//! An installation: the values it has, the revision of its entry that it runs, who may do what to it.

mod author;
mod follow;
mod rights;
mod values;

pub(crate) use author::values_author;
pub(crate) use follow::{Step, follow};
pub(crate) use rights::{require_entruster, require_manager, require_team_manager, sees};
pub(crate) use values::{Values, check};
