//! Tasks: calls whose results clients ask for later (2025-11-25).
//!
//! A server's id of a task is known to its client by one of the gateway's, which names the server. It is replaced wherever a message has it, and the
//! rest of the message stays as it came.

mod ids;
mod list;
mod places;
mod requests;

pub(super) use ids::{OwnTasks, TaskIds};
pub(super) use list::NotListed;
pub(super) use places::{Holder, TooLong};
pub(super) use requests::{RoutedTask, UNKNOWN_TASK};
