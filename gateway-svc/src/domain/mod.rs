//! The words the stations of a call share. Knows no transport.

mod caller;
mod consumer;
mod entry;
mod error;
mod installation;
mod link;
mod tool;

pub(crate) use caller::{Caller, CallerUser, Subject};
pub(crate) use consumer::{Audience, Consumer, ConsumerKind, ConsumerRef};
pub(crate) use entry::{Entry, Lifecycle};
pub(crate) use error::{CallError, Repair, RepairReason, UpstreamFault};
pub(crate) use installation::{Aspect, ConditionState, Endpoint, Installation, Owner};
pub(crate) use link::Links;
pub(crate) use tool::{DiscoveredTool, ExposedTool, rename};
